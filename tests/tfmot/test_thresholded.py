import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from tfsparse.tfmot import Thresholded

W = np.array([[0.5, 0.05], [-0.1, -0.8], [0.3, 0.2]], "float32")


def golden_model():
    model = tf_keras.Sequential([tf_keras.Input((3,)), Thresholded(layers.Dense(2), alpha=0.01)])
    model.layers[0].layer.kernel.assign(W)
    model.layers[0].thresholds[0].assign([[0.2, 0.1]])
    model.compile(tf_keras.optimizers.SGD(1.0), lambda _, y: y[:, 0] - 2 * y[:, 1])
    return model


def test_golden():
    """The authors' layer, executed (dst.md 3.6): forward, dW, dt."""
    model, x = golden_model(), np.array([[1, 2, 3]], "float32")
    np.testing.assert_allclose(model(x), [[1.4, -1.0]], rtol=1e-6)
    layer = model.layers[0]
    model.fit(x, np.zeros((1, 1)), verbose=0)
    gradient = W - layer.layer.kernel.numpy()
    np.testing.assert_allclose(gradient, [[1.4, -0.18], [0.32, -5.28], [4.44, -7.92]], rtol=1e-5)
    np.testing.assert_allclose([[0.2, 0.1]] - layer.thresholds[0].numpy(), [[-1.528187, 0.810952]], rtol=1e-5)


def test_all_thresholds_ten_are_zero_after_one_step():
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
def test_kinds_of_layers(make, shape, thresholds):
    """Thresholds per output unit, at 0 the layer's own answers; above, those of the masked kernel."""
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    layer = make()
    plain = layer(x).numpy()
    wrapped = Thresholded(layer)
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
        Thresholded(Hidden())(np.ones((2, 3), "float32"))
