import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from thoroughly import also

from tfsparse import tfmot
from tfsparse.testing import two_cpu_strategy
from tfsparse.tfmot.methods.curvature import Curvature

layers = tf_keras.layers
random = np.random.default_rng(3)
X = random.normal(size=(32, 4)).astype("float32")
Y = random.integers(0, 2, 32).astype("int32")


def net(dtype="float64", inner=(), wrapped=False):
    """Dense 4-3, BatchNormalization, tanh, Dense 3-2: 18 kernel entries; always the same weights."""
    model = tf_keras.Sequential([
        layers.Input((4,), dtype=dtype),
        layers.Dense(3, use_bias=False, dtype=dtype),
        layers.BatchNormalization(dtype=dtype),
        layers.Activation("tanh", dtype=dtype),
        *inner,
        layers.Dense(2, dtype=dtype),
    ])
    draw = np.random.default_rng(5)
    for weight in model.trainable_weights:
        weight.assign(draw.normal(size=weight.shape))
    if wrapped:
        model = tfmot.prune_low_magnitude(model, tfmot.Constant(0.5, end_step=2), scope="global")
    model.compile("sgd", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def plain_loss(model, flat):
    """The same in NumPy and float64, with the statistics of the batch, as a function of all kernels in a row."""
    gamma, beta = (np.asarray(w, "float64") for w in model.layers[1].trainable_weights)
    hidden = X.astype("float64") @ flat[:12].reshape(4, 3)
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3) * gamma + beta
    logits = np.tanh(hidden) @ flat[12:].reshape(3, 2) + model.trainable_weights[-1].numpy()
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(Y)), Y])


def flatten(tensors):
    return np.concatenate([np.ravel(t) for t in tensors])


def kernels(model):
    return [w for w in model.trainable_weights if len(w.shape) == 2]


def split(flat):
    return [flat[:12].reshape(4, 3), flat[12:].reshape(3, 2)]


def dense_hessian(model, step=1e-3):
    """Second central differences."""
    point, moves = flatten(kernels(model)).astype("float64"), np.eye(18) * step
    loss = lambda *moved: plain_loss(model, point + sum(moved))  # noqa: E731
    return np.array([
        [(loss(a, b) - loss(a, -b) - loss(-a, b) + loss(-a, -b)) / (4 * step**2) for b in moves] for a in moves
    ])


def linear(x):
    model = tf_keras.Sequential([layers.Input(x.shape[1:]), layers.Dense(2, use_bias=False)])
    model.compile("sgd", "mse")
    return Curvature(model, (x, np.ones((len(x), 2), "float32")))


def test_a_quadratic_loss_is_exact():
    curvature = linear(np.diag([1.0, 2.0, 4.0]).astype("float32"))  # H = x'x / 3, once per output
    np.testing.assert_allclose(curvature.hvp([np.ones((3, 2))])[0], np.outer([1, 4, 16], [1, 1]) / 3, rtol=1e-6)
    assert curvature.trace(probes=2) == pytest.approx(2 * 21 / 3, rel=1e-6)
    value, (vector,) = curvature.top_eigenvalue(iterations=20)
    assert value == pytest.approx(16 / 3, rel=1e-6)
    np.testing.assert_allclose(np.abs(vector), np.outer([0, 0, 1], [1, 1]) / np.sqrt(2), atol=1e-6)


@pytest.mark.parametrize("wrapped", [True, *also([False])])
def test_equals_second_differences_and_writes_nothing(wrapped):
    model = net(wrapped=wrapped)
    hessian, curvature = dense_hessian(net()), Curvature(model, (X, Y))
    before = [w.copy() for w in model.get_weights()]
    found = np.stack([flatten(curvature.hvp(split(column))) for column in np.eye(18)], axis=1)
    np.testing.assert_allclose(found, hessian, atol=1e-5 * np.abs(hessian).max())
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert curvature.top_eigenvalue(iterations=100)[0] == pytest.approx(max(eigenvalues, key=abs), rel=1e-3)
    assert curvature.trace(8000, seed=1) == pytest.approx(np.trace(hessian), rel=0.01)
    assert curvature.loss() == pytest.approx(plain_loss(net(), flatten(kernels(model))), rel=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any({"call", "_before_step", "_assign_moving_average"} & set(vars(x)) for x in model._flatten_layers())


def test_the_masked_hessian_is_the_principal_submatrix():
    model, alive = net(), np.arange(18) % 3 != 1
    hessian, curvature, masks = dense_hessian(model), Curvature(model, (X, Y)), split((np.arange(18) % 3 != 1) * 1.0)
    found = np.stack([flatten(curvature.hvp(split(column), masks)) for column in np.eye(18)], axis=1)
    assert not found[~alive].any()
    assert not found[:, ~alive].any()
    inner = hessian[np.ix_(alive, alive)]
    value, vectors = curvature.top_eigenvalue(iterations=100, masks=masks)
    assert value == pytest.approx(max(np.linalg.eigvalsh(inner), key=abs), rel=1e-3)
    assert not flatten(vectors)[~alive].any()


def test_fused_normalisation_has_the_hessian_of_the_plain_one():
    x, y = random.normal(size=(16, 5, 5, 2)).astype("float32"), random.normal(size=(16, 1)).astype("float32")
    products = []
    for fused in (True, False):
        tf_keras.utils.set_random_seed(1)
        inner = [layers.Conv2D(3, 3, use_bias=False), layers.BatchNormalization(fused=fused), layers.Activation("tanh")]
        head = [layers.Flatten(), layers.Dense(1)]
        model = tf_keras.Sequential([layers.Input((5, 5, 2)), *inner, *head])
        before = model.get_weights()
        curvature = Curvature(model, (x, y), loss="mse")
        products.append(flatten(curvature.hvp([np.ones(v.shape) for v in curvature.variables])))
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    np.testing.assert_allclose(*products, rtol=1e-3, atol=1e-4)


def test_layers_draw_no_random_numbers():
    noise = [layers.Dropout(0.5, dtype="float64"), layers.GaussianNoise(1.0, dtype="float64")]
    recurrent = lambda rate: [layers.Reshape((3, 1)), layers.LSTM(3, dropout=rate)]  # noqa: E731
    ones = [np.ones((4, 3)), np.ones((3, 2))]
    np.testing.assert_array_equal(*(flatten(Curvature(net(inner=i), (X, Y)).hvp(ones)) for i in (noise, [])))
    noisy, quiet = (Curvature(net("float32", recurrent(rate)), (X, Y)) for rate in (0.5, 0.0))
    vectors = [np.ones(v.shape) for v in noisy.variables]
    np.testing.assert_allclose(flatten(noisy.hvp(vectors)), flatten(quiet.hvp(vectors)), rtol=1e-4, atol=1e-6)


def test_two_replicas_equal_one_device():
    expected = Curvature(net("float32"), (X, Y)).trace(2)
    with two_cpu_strategy().scope():
        model = net("float32", wrapped=True)
        assert Curvature(model, (X, Y)).trace(2) == pytest.approx(expected, rel=1e-5)
    assert Curvature(model, (X, Y)).trace(2) == pytest.approx(expected, rel=1e-5)


def test_sample_weights_and_errors():
    x = np.diag([1.0, 2.0, 4.0]).astype("float32")
    model = tf_keras.Sequential([layers.Input((3,)), layers.Dense(1, use_bias=False)])
    data = (x, np.ones((3, 1), "float32"), np.array([1.0, 1.0, 0.0], "float32"))
    for loss in ("mse", tf_keras.losses.MeanSquaredError(), lambda y, p: tf.reduce_mean((y - p) ** 2, axis=-1)):
        product = Curvature(model, data, loss=loss).hvp([np.ones((3, 1))])[0]
        np.testing.assert_allclose(product, [[2 / 3], [8 / 3], [0]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"compiled with loss=None: expected one loss"):
        Curvature(model, data)
    with pytest.raises(ValueError, match="no kernel of rank >= 2"):
        Curvature(tf_keras.Sequential([layers.Input((3,)), layers.BatchNormalization()]), data, loss="mse")
