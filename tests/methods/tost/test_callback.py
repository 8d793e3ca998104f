import os

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import ToST, testing
from tfsparse.optimizers import masked_layer
from tfsparse.testing.fixtures import STEPS, Interruption, assert_same, fit_compiled, interrupt

EPOCHS, RATE = 4, 0.125
random = np.random.default_rng(5)
X, Y = random.normal(size=(12, 4)).astype("float32"), random.normal(size=(12, 1)).astype("float32")
FIRST, LAST = random.normal(size=(4, 3)).astype("float32"), random.normal(size=(3, 1)).astype("float32")


def trained(callback=None, **options):
    """Two layers without biases, 16 steps on the mean squared error; their kernels."""
    dense = {"use_bias": False}
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation="relu", **dense), layers.Dense(1, **dense)]
    )
    model.set_weights([FIRST, LAST])
    model = tfsparse.tost(model)
    model.compile(keras.optimizers.SGD(RATE), "mse", **options)
    callbacks = [callback or ToST()]
    history = model.fit(X, Y, batch_size=3, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    return [ops.convert_to_numpy(v) for v in model.trainable_variables], history.history


def reference(per_call=1):
    """The same in NumPy and float64, with the smoothness 1, 11/12, ..., 0 in steps 0 to 12 and 0 after them."""
    first, last = FIRST.astype("float64"), LAST.astype("float64")
    for step in range(EPOCHS * 4):
        smoothness = max(1 - (step // per_call * per_call) / 12, 0)
        x, y = (a[step % 4 * 3 :][:3] for a in (X, Y))
        z = x @ first
        if smoothness > 0:
            s = 1 / (1 + np.exp(-z / smoothness))
            hidden, slope = z * s, s + z / smoothness * s * (1 - s)
        else:
            hidden, slope = np.maximum(z, 0), z > 0
        error = 2 * (hidden @ last - y) / 3
        first, last = first - RATE * x.T @ (error @ last.T * slope), last - RATE * hidden.T @ error
    return first, last


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_training_is_that_of_the_reference(options):
    kernels, history = trained(**options)
    for kernel, expected in zip(kernels, reference(options.get("steps_per_execution", 1)), strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(history["smoothness"], [2 / 3, 1 / 3, 0, 0], atol=1e-6)


def test_a_schedule_may_be_a_name_and_end_with_training():
    assert trained(ToST("cosine"))[1]["smoothness"][-1] == 0
    assert trained(ToST(tfsparse.Linear(start=0.5)))[1]["smoothness"] == [1, 1, 0.5, 0]


def test_the_smoothness_is_set_some_times_only():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(masked_layer.training_activations(self.model)[0].smoothness))

    model = tfsparse.tost(testing.small_model())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit_compiled(model, [ToST(tfsparse.Linear(), updates=4), Look()], epochs=2)
    assert seen == [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0]


def pruned(pruner, callbacks=(), sparsity=0.95):
    """Train the small model with a pruner, from the first step at its target."""
    model = tfsparse.tost(testing.small_model())
    optimizer, loss = keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True)
    model.compile(optimizer, loss)
    return fit_compiled(model, [tfsparse.Prune("constant", sparsity, pruner), ToST(), *callbacks], EPOCHS)


@pytest.mark.parametrize("pruner", ["rigl", "random"])
def test_the_end_is_a_plain_sparse_network_with_equal_outputs(pruner, tmp_path):
    model, (x, _) = pruned(pruner), testing.small_data()
    plain = tfsparse.finalize(model)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), model.predict(x, verbose=0))
    report = tfsparse.report(plain)
    assert report.sparsity == pytest.approx(0.95, abs=1 / sum(row.size for row in report.rows))
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    assert loaded.get_layer("hidden").activation is keras.activations.relu


def test_a_resumed_training_has_the_bits_of_a_straight_one(tmp_path):
    save = keras.callbacks.ModelCheckpoint(os.path.join(tmp_path, "{epoch}.keras"))
    straight = pruned("rigl", [save])
    model = keras.models.load_model(tmp_path / "2.keras")
    smoothness = masked_layer.training_activations(model)[0].smoothness
    assert float(smoothness) == pytest.approx(1 - 2 * STEPS / (0.75 * EPOCHS * STEPS), abs=1e-6)
    prune = tfsparse.Prune("constant", 0.95, "rigl")
    assert_same(fit_compiled(model, [prune, ToST()], EPOCHS, initial_epoch=2), straight, "resumed from a file")
    backup = keras.callbacks.BackupAndRestore
    with pytest.raises(Interruption):
        pruned("rigl", [backup(tmp_path / "backup"), interrupt(2)])
    assert_same(pruned("rigl", [backup(tmp_path / "backup")]), straight, "resumed from BackupAndRestore")


def test_what_cannot_end_at_relu_is_refused():
    with pytest.raises(ValueError, match=r"DSD\(.*\) ends at 0, so activations would not be ReLU"):
        ToST("dsd")
    with pytest.raises(ValueError, match="updates=0: expected how often"):
        ToST(updates=0)
    model, (x, y) = testing.small_model(), testing.small_data()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="No activation of .* is a SmoothReLU, and it has no GhostSkip: write"):
        model.fit(x, y, verbose=0, callbacks=[ToST()])

    def endless():
        while True:
            yield x[:4], y[:4]

    with pytest.raises(ValueError, match="length is unknown, so ToST"):
        model.fit(endless(), verbose=0, shuffle=False, callbacks=[ToST()])
