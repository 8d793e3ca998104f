import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import tfsparse
import tfsparse.tfmot as tfmot
from tfsparse import testing
from tfsparse.backend import replicas
from tfsparse.optimizers import masked_layer


def plain_model():
    tf_keras.utils.set_random_seed(7)
    inner = tf_keras.Sequential([tf_keras.Input((6, 6, 1)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()])
    inputs = tf_keras.Input((6, 6, 1))
    x = layers.Dense(8, activation="relu", name="hidden")(layers.Flatten()(inner(inputs)))
    return tf_keras.Model(inputs, layers.Dense(4, name="head")(x))


def compiled(alpha=0.02, **options):
    model = tfmot.dst(plain_model(), alpha)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    return model


def fit(model, sparsity=0.5, epochs=6, callbacks=(), **options):
    x, y = testing.small_data()
    callbacks = [tfmot.DST(sparsity), *callbacks]
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **options)
    return model


def zeros(model):
    masks = [mask.numpy() for _, mask in masked_layer.layer_masks(model)]
    return sum(int(np.sum(m == 0)) for m in masks), sum(m.size for m in masks)


def assert_same(model, other, exactly=True):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(a, b) if exactly else np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_training_reaches_the_target_and_finalize_gives_the_same_outputs():
    model = fit(compiled())
    found, size = zeros(model)
    assert found == round(0.5 * size)
    plain, (x, _) = tfmot.finalize(model), testing.small_data()
    np.testing.assert_allclose(plain(x), model(x), atol=1e-6)
    assert sum(int(np.sum(w == 0)) for w in plain.get_weights() if w.ndim > 1) == found
    assert [w.shape for w in plain.weights] == [w.shape for w in plain_model().weights]


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
def test_eager_jit_and_grouped_steps_give_the_same_weights(options):
    assert_same(fit(compiled(**options), None), fit(compiled(), None), exactly=False)


def test_resume_from_a_file(tmp_path):
    save = tf_keras.callbacks.ModelCheckpoint(str(tmp_path / "model.{epoch}.keras"))
    straight = fit(compiled(), callbacks=[save])
    resumed = fit(tf_keras.models.load_model(tmp_path / "model.3.keras"), initial_epoch=3)
    assert_same(resumed, straight)


def test_mixed_precision():
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = fit(compiled())
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
    found, size = zeros(model)
    assert found == round(0.5 * size)
    assert {t.dtype for layer in masked_layer.masked_layers(model) for t in layer.thresholds} == {tf.float32}


def test_two_replicas_equal_one_device():
    """Thresholds and kernels are equal on both replicas after every step."""

    def look(batch, logs):
        for layer in masked_layer.masked_layers(mirrored):
            for variable in (*layer.kernels, *layer.thresholds):
                first, second = replicas.replica_values(variable)
                assert np.array_equal(first, second)

    with testing.two_cpu_strategy().scope():
        mirrored = compiled()
        fit(mirrored, callbacks=[tf_keras.callbacks.LambdaCallback(on_train_batch_end=look)])
    assert_same(mirrored, fit(compiled()), exactly=False)


def test_errors():
    class Net(tf_keras.Model):
        pass

    with pytest.raises(ValueError, match="is a subclassed model, whose layers cannot be exchanged"):
        tfmot.dst(Net())
    with pytest.raises(ValueError, match="Nothing to prune"):
        tfmot.dst(tf_keras.Sequential([tf_keras.Input((4,)), layers.ReLU()]))
    with pytest.raises(ValueError, match="has no layer 'lgits'"):
        tfmot.dst(plain_model(), exclude="lgits")
    model = plain_model()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has thresholds: write model = tfsparse.dst"):
        fit(model)


# ---- the layer -------------------------------------------------------------------------------------------------------

W = np.array([[0.5, 0.05], [-0.1, -0.8], [0.3, 0.2]], "float32")


def golden_model():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tfmot.Thresholded(layers.Dense(2), alpha=0.01)])
    model.layers[0].layer.kernel.assign(W)
    model.layers[0].thresholds[0].assign([[0.2, 0.1]])
    model.compile(tf_keras.optimizers.SGD(1.0), lambda _, y: y[:, 0] - 2 * y[:, 1])
    return model


def test_equals_the_code_of_the_authors():
    """Forward, kernel gradient and threshold gradient equal those of the authors' code."""
    model, x = golden_model(), np.array([[1, 2, 3]], "float32")
    np.testing.assert_allclose(model(x), [[1.4, -1.0]], rtol=1e-6)
    layer = model.layers[0]
    model.fit(x, np.zeros((1, 1)), verbose=0)
    gradient = W - layer.layer.kernel.numpy()
    np.testing.assert_allclose(gradient, [[1.4, -0.18], [0.32, -5.28], [4.44, -7.92]], rtol=1e-5)
    np.testing.assert_allclose([[0.2, 0.1]] - layer.thresholds[0].numpy(), [[-1.528187, 0.810952]], rtol=1e-5)


def test_thresholds_above_all_weights_are_reset_after_one_step():
    model = golden_model()
    model.layers[0].thresholds[0].assign([[10, 10]])
    model.fit(np.zeros((1, 3)), np.zeros((1, 1)), verbose=0)
    np.testing.assert_array_equal(model.layers[0].thresholds[0], [[0, 0]])


@pytest.mark.parametrize(
    ("make", "shape", "thresholds"),
    [
        (lambda: layers.Dense(4), (5,), [(1, 4)]),
        (lambda: layers.Conv2D(4, 3), (6, 6, 2), [(1, 1, 1, 4)]),
        (lambda: layers.Conv2DTranspose(4, 3), (6, 6, 2), [(1, 1, 4, 1)]),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 3), [(1, 1, 3, 2)]),
        (lambda: layers.SeparableConv2D(4, 3), (6, 6, 2), [(1, 1, 2, 1), (1, 1, 1, 4)]),
        (lambda: layers.EinsumDense("abc,cde->abde", (5, 2, 3)), (5, 4), [(1, 2, 3)]),
        (lambda: layers.LSTM(4), (5, 3), [(1, 16), (1, 16)]),
        (lambda: layers.GRU(4), (5, 3), [(1, 12), (1, 12)]),
        (lambda: layers.Bidirectional(layers.SimpleRNN(4)), (5, 3), [(1, 4)] * 4),
        (lambda: layers.TimeDistributed(layers.Dense(4)), (5, 3), [(1, 4)]),
    ],
    ids=["dense", "conv", "transposed", "depthwise", "separable", "einsum", "lstm", "gru", "both", "distributed"],
)
def test_all_kinds_of_layers(make, shape, thresholds):
    """There is one threshold per output unit; outputs are the layer's at 0, and those of masked kernels above it."""
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    layer = make()
    plain = layer(x).numpy()
    wrapped = tfmot.Thresholded(layer)
    np.testing.assert_array_equal(wrapped(x), plain)
    assert [tuple(t.shape) for t in wrapped.thresholds] == thresholds
    for threshold, kernel in zip(wrapped.thresholds, wrapped.kernels, strict=True):
        threshold.assign(np.full(threshold.shape, np.quantile(np.abs(kernel.numpy()), 0.5)))
    pruned = wrapped(x).numpy()
    assert not np.allclose(pruned, plain)
    for kernel, mask in zip(wrapped.kernels, wrapped.masks(), strict=True):
        kernel.assign(kernel * mask)
    np.testing.assert_allclose(layer(x), pruned, rtol=1e-6)


def test_kernels_that_are_no_attributes_are_refused():
    class Hidden(layers.Layer):
        def build(self, shape):
            self.weights_of_mine = {"one": self.add_weight("kernel", shape=(3, 3))}

        def call(self, x):
            return x @ self.weights_of_mine["one"]

    with pytest.raises(ValueError, match="does not keep its kernels as attributes: wrap the layers inside it instead"):
        tfmot.Thresholded(Hidden())(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("function", [tfmot.dst, tfmot.finalize])
def test_a_keras_3_model_is_told_what_to_write(function):
    with pytest.raises(ValueError, match="Keras 3 models need no wrappers"):
        function(testing.small_model())


def test_a_file_from_before_the_cut_is_told_apart(tmp_path):
    fit(compiled(), callbacks=[tf_keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))])
    early, late = (tf_keras.models.load_model(tmp_path / f"{epoch}.keras") for epoch in (1, 6))
    with pytest.warns(UserWarning, match=r"before the target was reached: 0\.\d+ .* the target is 0.5, to which DST"):
        tfsparse.export(early, tmp_path / "early")
    tfsparse.export(late, tmp_path / "late")  # no warning
