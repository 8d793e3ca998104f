"""The main jobs, in one process without a test runner, for environments with other versions: `smoke.py JOB FOLDER`."""

import pathlib
import sys
import warnings

import numpy as np

X = np.random.default_rng(0).normal(size=(128, 16)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 128)


def network(keras):
    layers = keras.layers
    inputs = keras.Input((16,))
    hidden = layers.Dense(32, "relu")(layers.Dense(32, "relu")(inputs))
    return keras.Model(inputs, layers.Dense(4, "softmax")(hidden))


def trained(model, optimizer, *callbacks, epochs=3):
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    warnings.filterwarnings("ignore", message="At the end of this fit .* of the passive weights")  # a short one
    model.fit(X, Y, epochs=epochs, callbacks=[*callbacks], verbose=0)
    return model


def check(model, sparsity, folder):
    """The zeros of a model, its outputs after it was saved and loaded, and those of its SavedModel."""
    import keras
    import tensorflow as tf

    import tfsparse

    kernels = [v for v in model.trainable_variables if len(v.shape) == 2]
    zeros = sum(np.sum(np.asarray(v) == 0) for v in kernels) / sum(np.size(np.asarray(v)) for v in kernels)
    assert abs(zeros - sparsity) < 0.002, zeros
    outputs = model.predict(X, verbose=0)
    if isinstance(model, keras.Model):
        assert abs(tfsparse.report(model).sparsity - sparsity) < 0.002
        model.save(folder / "model.keras")
        again = keras.models.load_model(folder / "model.keras")
        np.testing.assert_array_equal(again.predict(X, verbose=0), outputs)
    served = tf.saved_model.load(str(tfsparse.export(model, folder / "out")))
    np.testing.assert_allclose(served.serve(X), outputs, atol=1e-6)
    tfsparse.export_tflite(model, folder / "out.tflite")


def prune(folder):
    import keras

    import tfsparse

    check(trained(network(keras), "adam", tfsparse.Prune("one_cycle", sparsity=0.8)), 0.8, folder)


def pll(folder):
    import keras

    import tfsparse

    check(trained(network(keras), "adam", tfsparse.PLL((X, Y), 0.8), epochs=10), 0.8, folder)


def gsm(folder):
    import keras

    import tfsparse

    check(trained(network(keras), "sgd", tfsparse.PruneGSM(compression=5)), 0.8, folder)


def dst(folder):
    import keras

    import tfsparse

    model = trained(tfsparse.dst(network(keras)), keras.optimizers.SGD(0.1), tfsparse.DST(0.8), epochs=10)
    model.save(folder / "thresholds.keras")
    keras.models.load_model(folder / "thresholds.keras")
    check(tfsparse.finalize(model), 0.8, folder)


def activation_density(folder):
    import keras

    import tfsparse

    model = network(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    driver = tfsparse.ActivationDensity(model, monitor="loss", min_epochs=1, window=1)
    driver.fit(X, Y, epochs=4, verbose=0)
    assert driver.model.count_params() < model.count_params()
    check(driver.model, 0.0, folder)


def tfmot(folder):
    import tf_keras

    import tfsparse.tfmot

    model = tfsparse.tfmot.prune_low_magnitude(network(tf_keras))
    trained(model, "adam", tfsparse.tfmot.Prune("one_cycle", sparsity=0.8))
    check(tfsparse.tfmot.strip_pruning(model), 0.8, folder)
    converted = tfsparse.tfmot.to_keras3(model)
    np.testing.assert_allclose(converted.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    again = tfsparse.tfmot.from_keras3(converted)
    np.testing.assert_allclose(again.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)


if __name__ == "__main__":
    globals()[sys.argv[1]](pathlib.Path(sys.argv[2]))
    print(f"{sys.argv[1]}: passed")
