import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import Thresholded
from tfsparse.optimizers import masked_layer

W = np.array([[0.5, 0.05], [-0.1, -0.8], [0.3, 0.2]], "float32")
T = np.array([[0.2, 0.1]], "float32")


def golden_layer():
    layer = Thresholded(layers.Dense(2), alpha=0.01)
    layer.build((None, 3))
    layer.layer.kernel.assign(W)
    layer.thresholds[0].assign(T)
    return layer


def one_step(layer, x, loss, optimizer=None):
    """The change of every trainable variable in one step of plain gradient descent: minus its gradient."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    before = {v.path: np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables}
    model.compile(optimizer or keras.optimizers.SGD(1.0), loss)
    model.fit(x, np.zeros((len(x), 1), "float32"), verbose=0)
    return {v.path.split("/")[-1]: before[v.path] - ops.convert_to_numpy(v) for v in model.trainable_variables}


def test_golden_layer():
    """The authors' layer, executed (dst.md 3.6): forward, dW, dt."""
    layer, x = golden_layer(), np.array([[1, 2, 3]], "float32")
    np.testing.assert_allclose(layer(x), [[1.4, -1.0]], rtol=1e-6)
    np.testing.assert_array_equal(layer.masks()[0], [[1, 0], [0, 1], [1, 1]])
    gradients = one_step(layer, x, lambda _, y: y[:, 0] - 2 * y[:, 1])
    np.testing.assert_allclose(gradients["kernel"], [[1.4, -0.18], [0.32, -5.28], [4.44, -7.92]], rtol=1e-5)
    np.testing.assert_allclose(gradients["kernel_threshold"], [[-1.528187, 0.810952]], rtol=1e-5)


def test_thresholds_above_all_weights_are_zero_after_one_step():
    layer = golden_layer()
    layer.thresholds[0].assign([[10, 10]])
    one_step(layer, np.ones((1, 3), "float32"), "mse")
    np.testing.assert_array_equal(layer.thresholds[0], [[0, 0]])


def test_the_penalty_of_a_layer_that_is_called_twice_counts_once():
    layer = Thresholded(layers.Dense(3), alpha=0.5)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(layer(inputs)))
    np.testing.assert_allclose(sum(model.losses), 0.5 * 3)
    layer.alpha.assign(2.0)
    np.testing.assert_allclose(sum(model.losses), 2.0 * 3)


@pytest.mark.parametrize(
    ("layer", "shape", "thresholds"),
    [
        (layers.Dense(4), (5,), [(1, 4)]),
        (layers.Conv2D(4, 3), (6, 6, 2), [(1, 1, 1, 4)]),
        (layers.Conv2D(4, 3, groups=2), (6, 6, 2), [(1, 1, 1, 4)]),
        (layers.Conv1D(4, 3), (6, 2), [(1, 1, 4)]),
        (layers.Conv2DTranspose(4, 3), (6, 6, 2), [(1, 1, 4, 1)]),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 3), [(1, 1, 3, 2)]),
        (layers.SeparableConv2D(4, 3), (6, 6, 2), [(1, 1, 2, 1), (1, 1, 1, 4)]),
        (layers.EinsumDense("abc,cde->abde", (5, 2, 3)), (5, 4), [(1, 2, 3)]),
        (layers.EinsumDense("abcd,cde->abe", (5, 3)), (5, 2, 4), [(1, 1, 3)]),
        (layers.LSTM(4), (5, 3), [(1, 16), (1, 16)]),
        (layers.GRU(4), (5, 3), [(1, 12), (1, 12)]),
        (layers.Bidirectional(layers.SimpleRNN(4)), (5, 3), [(1, 4)] * 4),
        (layers.TimeDistributed(layers.Dense(4)), (5, 3), [(1, 4)]),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, layers.Layer) else "",
)
def test_layers_of_every_kind_compute_with_masked_kernels(layer, shape, thresholds):
    """Thresholds per output unit, at 0 the layer's own answers; above, those of the masked kernel."""
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    plain = np.array(ops.convert_to_numpy(layer(x)))
    wrapped = Thresholded(layer)
    np.testing.assert_array_equal(wrapped(x), plain)
    assert [tuple(t.shape) for t in wrapped.thresholds] == thresholds
    for threshold, kernel in zip(wrapped.thresholds, wrapped.kernels, strict=True):
        middle = np.quantile(np.abs(ops.convert_to_numpy(kernel)), 0.5)
        threshold.assign(np.full(threshold.shape, middle, "float32"))
    pruned = np.array(ops.convert_to_numpy(wrapped(x)))
    assert not np.allclose(pruned, plain)
    for kernel, mask in zip(wrapped.kernels, wrapped.masks(), strict=True):
        kernel.assign(kernel * mask)
    np.testing.assert_allclose(layer(x), pruned, rtol=1e-6)


def test_a_layer_with_several_inputs_is_wrapped():
    query, value = (np.random.default_rng(i).normal(size=(2, 5, 4)).astype("float32") for i in range(2))
    inputs = [keras.Input((5, 4)), keras.Input((5, 4))]
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 3, name="attention")(*inputs))
    wrapped = tfsparse.dst(model)
    np.testing.assert_allclose(wrapped([query, value]), model([query, value]), rtol=1e-6)
    assert len(masked_layer.layer_masks(wrapped)) == 4


def test_state_and_activity_losses_of_the_layer_are_kept():
    """What the layer writes while it is called (here the state of its random number generator) is not lost."""
    layer = Thresholded(layers.LSTM(3, dropout=0.5, activity_regularizer="l2", seed=1))
    x = np.ones((2, 4, 3), "float32")
    first, second = (np.array(ops.convert_to_numpy(layer(x, training=True))) for _ in range(2))
    assert not np.array_equal(first, second)
    model = keras.Sequential([keras.Input((4, 3)), Thresholded(layers.Dense(3, activity_regularizer="l2"), alpha=0.0)])
    model.compile("sgd", lambda _, y: 0 * y[:, 0])
    assert model.evaluate(x, x[:, 0], verbose=0) > 0


def test_keras_masks_pass_through():
    x = np.ones((1, 4, 3), "float32")
    x[:, 2:] = 0
    plain = keras.Sequential([keras.Input((4, 3)), layers.Masking(), layers.LSTM(2)])
    np.testing.assert_allclose(tfsparse.dst(plain)(x), plain(x), rtol=1e-6)
    assert np.abs(ops.convert_to_numpy(plain(x) - plain.layers[-1](x))).max() > 0


def test_recurrent_cells_are_reset_only_when_nothing_is_left():
    x = np.ones((4, 5, 3), "float32")
    for kept, reset in ((1, False), (0, True)):
        layer = Thresholded(layers.SimpleRNN(16), alpha=0.0)
        layer.build((None, 5, 3))
        kernel = np.full((16, 16), 0.1, "float32")
        kernel[0, :kept] = 5.0  # of 256 weights one: less than 1 %
        layer.kernels[1].assign(kernel)
        layer.thresholds[1].assign(np.ones((1, 16), "float32"))
        one_step(layer, x, lambda _, y: 0 * y[:, 0])
        assert (np.max(ops.convert_to_numpy(layer.thresholds[1])) == 0) == reset


def test_options_and_thresholds_are_saved(tmp_path):
    model = keras.Sequential([keras.Input((4,)), Thresholded(layers.Dense(3), "matrix", alpha=0.25, floor=0.1)])
    model.layers[0].thresholds[0].assign(np.full((4, 3), 0.3))
    model.save(tmp_path / "model.keras")
    layer = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert (layer.threshold, layer.floor, float(layer.alpha)) == ("matrix", 0.1, 0.25)
    np.testing.assert_allclose(layer.thresholds[0], np.full((4, 3), 0.3, "float32"))


def test_masks_are_computed_at_full_precision_in_mixed_precision():
    """0.10001 and 0.1 are one number in float16."""
    layer = Thresholded(layers.Dense(1, dtype="mixed_float16"))
    outputs = layer(np.ones((1, 2), "float32"))
    layer.layer.kernel.assign([[0.10001], [0.05]])
    layer.thresholds[0].assign([[0.1]])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    np.testing.assert_allclose(ops.convert_to_numpy(layer(np.ones((1, 2), "float32"))), [[0.1]], rtol=1e-3)


def test_a_layer_without_kernels_is_refused():
    with pytest.raises(ValueError, match="has no trainable kernel of rank >= 2: wrap Dense"):
        Thresholded(layers.BatchNormalization())(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("options", [{"threshold": "rows"}, {"alpha": -1.0}, {"floor": 2}])
def test_an_option_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Thresholded(layers.Dense(3), **options)


def test_a_subclassed_model_may_wrap_its_layers_itself():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = Thresholded(layers.Dense(8), alpha=0.1), layers.Dense(1)

        def call(self, x):
            return self.head(ops.relu(self.hidden(x)))

    model, x = Net(), np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model(x)
    model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[tfsparse.DST(0.5)])
    assert tfsparse.report(model).sparsity == 0.5
    assert [row.masked for row in tfsparse.report(model).rows] == [True, False]


def test_a_kernel_that_its_wrapper_lists_as_well_has_one_threshold():
    net = keras.Sequential([keras.Input((8,)), layers.SpectralNormalization(layers.Dense(6, name="inside"))])
    wrapped = tfsparse.dst(net).layers[0]
    pairs = zip(wrapped.kernels, wrapped.thresholds, strict=True)
    assert [(k.path, tuple(t.shape)) for k, t in pairs] == [("inside/kernel", (1, 6))]
