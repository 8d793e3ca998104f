import keras
import numpy as np
import pytest
from keras import layers, ops

from tfsparse.methods.pll.curvature import Curvature
from tfsparse.testing.devices import two_cpu_strategy

on_tensorflow = keras.backend.backend() == "tensorflow"
random = np.random.default_rng(3)
X = random.normal(size=(32, 4)).astype("float32")
Y = random.integers(0, 2, 32).astype("int32")

# the signs of the first two probes, for the seeds 0 and 1
GOLDEN = [[[1, 1, 1, 1, -1, -1], [1, 1, 1, 1, 1, 1]], [[1, 1, -1, 1, 1, -1], [1, 1, -1, -1, 1, 1]]]


def net(dtype="float32", inner=(), regularizer=None):
    """Dense 4-3, BatchNormalization, tanh, Dense 3-2: 18 kernel entries; always the same weights."""
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float32"),
            layers.Dense(3, use_bias=False, kernel_regularizer=regularizer, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.Activation("tanh", dtype=dtype),
            *inner,
            layers.Dense(2, dtype=dtype),
        ]
    )
    draw = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    wide = "float64" if dtype == "float64" else "float32"
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=wide))
    return model


def plain_loss(model, flat):
    """The same in NumPy and float64, with the statistics of the batch, as a function of all kernels in a row."""
    gamma, beta = (np.asarray(ops.convert_to_numpy(v), "float64") for v in model.layers[1].trainable_variables)
    first, last = flat[:12].reshape(4, 3), flat[12:].reshape(3, 2)
    hidden = X.astype("float64") @ first
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3) * gamma + beta
    logits = np.tanh(hidden) @ last + ops.convert_to_numpy(model.layers[-1].bias)
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(Y)), Y])


def dense_hessian(model, step=1e-3):
    """Second central differences."""
    point, moves = flatten(kernels(model)).astype("float64"), np.eye(18) * step
    loss = lambda *moved: plain_loss(model, point + sum(moved))  # noqa: E731
    return np.array(
        [[(loss(a, b) - loss(a, -b) - loss(-a, b) + loss(-a, -b)) / (4 * step**2) for b in moves] for a in moves]
    )


def kernels(model):
    return [v for v in model.trainable_variables if v.name == "kernel"]


def flatten(tensors):
    return np.concatenate([np.ravel(ops.convert_to_numpy(t)) for t in tensors])


def split(flat, model):
    sizes = np.cumsum([np.prod(v.shape) for v in kernels(model)])[:-1]
    return [p.reshape(v.shape).astype("float32") for p, v in zip(np.split(flat, sizes), kernels(model), strict=True)]


def matrix(curvature, model, masks=None):
    """`H` column by column."""
    return np.stack([flatten(curvature.hvp(split(column, model), masks)) for column in np.eye(18)], axis=1)


def linear(x, loss="mse", outputs=2):
    """A model without bias whose Hessian under the mean squared error is 2 x'x / (rows * outputs) for each output."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(outputs, use_bias=False)])
    model.compile("sgd", loss)
    return model, Curvature(model, (x, np.ones((len(x), outputs), "float32")))


def test_a_quadratic_loss_is_exact():
    x = np.diag([1.0, 2.0, 4.0]).astype("float32")  # H = x'x / 3, once per output
    _, curvature = linear(x)
    np.testing.assert_allclose(curvature.hvp([np.ones((3, 2))])[0], np.outer([1, 4, 16], [1, 1]) / 3, rtol=1e-6)
    assert curvature.trace(probes=2) == pytest.approx(2 * 21 / 3, rel=1e-6)  # diagonal: any probe is exact
    value, (vector,) = curvature.top_eigenvalue(iterations=20)
    assert value == pytest.approx(16 / 3, rel=1e-6)
    np.testing.assert_allclose(np.abs(vector), np.outer([0, 0, 1], [1, 1]) / np.sqrt(2), atol=1e-6)


def test_sample_weights_are_used():
    x, y = np.diag([1.0, 2.0, 4.0]).astype("float32"), np.ones((3, 1), "float32")
    model, _ = linear(x, outputs=1)
    weights = np.array([1.0, 1.0, 0.0], "float32")
    for loss in (None, "mse", keras.losses.MeanSquaredError(), lambda y, p: ops.mean((y - p) ** 2, axis=-1)):
        curvature = Curvature(model, (x, y, weights), loss=loss)
        np.testing.assert_allclose(curvature.hvp([np.ones((3, 1))])[0], [[2 / 3], [8 / 3], [0]], rtol=1e-6)


def test_products_equal_second_differences_through_the_batch_statistics():
    model = net("float64" if on_tensorflow else "float32")
    hessian, curvature = dense_hessian(model), Curvature(model, (X, Y))
    np.testing.assert_allclose(matrix(curvature, model), hessian, atol=1e-5 * np.abs(hessian).max())
    assert curvature.loss() == pytest.approx(plain_loss(model, flatten(kernels(model)).astype("float64")), rel=1e-5)
    eigenvalues = np.linalg.eigvalsh(hessian)
    value, vectors = curvature.top_eigenvalue(iterations=100)
    assert value == pytest.approx(max(eigenvalues, key=abs), rel=1e-3)
    assert np.linalg.norm(flatten(vectors)) == pytest.approx(1, rel=1e-5)
    signs = np.stack([flatten(curvature._random_signs(7, probe)) for probe in range(5)])
    assert curvature.trace(5, seed=7) == pytest.approx(np.mean([z @ hessian @ z for z in signs]), rel=1e-3)
    assert curvature.trace(8000, seed=1) == pytest.approx(np.trace(hessian), rel=0.01)


def test_masks_give_the_principal_submatrix():
    model, alive = net(), np.arange(18) % 3 != 1
    hessian, curvature, masks = dense_hessian(model), Curvature(model, (X, Y)), split(alive, model)
    found = matrix(curvature, model, masks)
    assert not found[~alive].any()
    assert not found[:, ~alive].any()
    inner = hessian[np.ix_(alive, alive)]
    np.testing.assert_allclose(found[np.ix_(alive, alive)], inner, atol=1e-4 * np.abs(hessian).max())
    value, vectors = curvature.top_eigenvalue(iterations=100, masks=masks)
    assert value == pytest.approx(max(np.linalg.eigvalsh(inner), key=abs), rel=1e-3)
    assert not flatten(vectors)[~alive].any()
    signs = [flatten(curvature._random_signs(0, probe))[alive] for probe in range(4)]
    assert curvature.trace(4, masks=masks) == pytest.approx(np.mean([z @ inner @ z for z in signs]), rel=1e-3)


def test_power_iteration_continues_from_earlier_vectors():
    curvature = Curvature(net(), (X, Y))
    straight, expected = curvature.top_eigenvalue(iterations=12)
    vectors = None
    for _ in range(4):
        value, vectors = curvature.top_eigenvalue(vectors, iterations=3)
    assert value == pytest.approx(straight, rel=1e-5)
    np.testing.assert_allclose(flatten(vectors), flatten(expected), atol=1e-5)
    assert curvature.top_eigenvalue(iterations=1)[0] != pytest.approx(straight, rel=0.05)


def test_vectors_that_are_0_for_living_weights_are_replaced_by_random_signs():
    model = net()
    curvature, last = Curvature(model, (X, Y)), np.repeat([1.0, 0.0], [12, 6])
    vectors, masks = split(1 - last, model), split(last, model)
    anew = curvature.top_eigenvalue(iterations=4, masks=masks)[0]
    assert curvature.top_eigenvalue(vectors, 4, masks)[0] == pytest.approx(anew) != 0


def test_a_product_that_is_0_or_nan_leaves_the_vector_as_it_was():
    _, flat = linear(np.zeros((2, 3), "float32"))
    value, vectors = flat.top_eigenvalue([np.eye(3, 2)], 3)
    assert value == 0
    np.testing.assert_allclose(vectors[0], np.eye(3, 2) / np.sqrt(2), rtol=1e-6)
    _, broken = linear(np.full((2, 3), np.nan, "float32"))
    value, vectors = broken.top_eigenvalue([np.eye(3, 2)], 3)
    assert np.isnan(value)
    np.testing.assert_allclose(vectors[0], np.eye(3, 2) / np.sqrt(2), rtol=1e-6)


def test_golden_random_signs():
    _, curvature = linear(np.eye(3, dtype="float32"))
    signs = [[flatten(curvature._random_signs(seed, probe)).tolist() for probe in (0, 1)] for seed in (0, 1)]
    assert signs == GOLDEN
    assert Curvature(net(), (X, Y)).trace(4, seed=2) == pytest.approx(0.76041, abs=1e-5)


def test_random_signs_are_independent():
    model = keras.Sequential([keras.Input((100,)), layers.Dense(100), layers.Dense(100)])
    curvature = Curvature(model, (np.zeros((1, 100)), np.zeros((1, 100))), loss="mse")
    signs = np.stack([flatten(curvature._random_signs(seed, probe)) for seed in range(3) for probe in range(3)])
    assert set(np.unique(signs)) == {-1, 1}
    correlations = signs @ signs.T / signs.shape[1] - np.eye(9)
    assert np.abs(correlations).max() < 0.035  # five standard deviations of 20 000 coins
    shifted = [np.mean(signs[0, lag:] * signs[0, :-lag]) for lag in (1, 2, 100, 7919, 10_000)]
    assert np.abs(shifted).max() < 0.05


NOISE = {
    "noise": lambda: [
        layers.Dropout(0.5),
        layers.GaussianNoise(1.0),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
    ],
    "nested": lambda: [keras.Sequential([layers.Dropout(0.5)]), layers.BatchNormalization(scale=False, center=False)],
    "recurrent": lambda: [
        layers.Reshape((3, 1)),
        layers.LSTM(2, dropout=0.5, return_sequences=True),
        layers.SimpleRNN(3, recurrent_dropout=0.5),
    ],
    "attention": lambda: [layers.Reshape((3, 1)), Attention(2, 2, dropout=0.5), layers.Flatten()],
    "augmentation": lambda: [
        layers.Reshape((3, 1, 1)),
        layers.RandomFlip(),
        layers.RandomRotation(0.5),
        layers.Flatten(),
    ],
}


class Attention(layers.MultiHeadAttention):
    def call(self, x, training=None):
        return super().call(x, x, training=training)

    def build(self, shape):
        super().build(shape, shape)

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_off_and_nothing_is_written(kind):
    model = net(inner=NOISE[kind]())
    noiseless = net(inner=without_noise(NOISE[kind]()))
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    curvature, same = Curvature(model, (X, Y)), Curvature(noiseless, (X, Y))
    ones = [np.ones(v.shape) for v in curvature.variables]
    first, second, expected = (flatten(c.hvp(ones)) for c in (curvature, curvature, same))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)
    if kind == "noise":
        curvature.top_eigenvalue(iterations=2)
        curvature.trace(2)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new), err_msg=new.path)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    assert model.losses == []


def without_noise(inner):
    """The same layers without noise."""
    found = []
    for layer in inner:
        config = layer.get_config()
        for key in {"rate", "stddev", "dropout", "recurrent_dropout"} & set(config):
            config[key] = 0.0
        if not isinstance(layer, (keras.Sequential, layers.RandomFlip, layers.RandomRotation)):
            found.append(type(layer).from_config(config))
    return found


def test_dropout_that_is_always_on_is_off():
    class Always(keras.Model):
        def __init__(self, rate):
            super().__init__()
            self.drop, self.last = layers.Dropout(rate), layers.Dense(1, use_bias=False, kernel_initializer="ones")

        def call(self, x):
            return self.last(self.drop(x, training=True))

    products = []
    for rate in (0.0, 0.5):
        model = Always(rate)
        model(X)
        products.append(flatten(Curvature(model, (X, X[:, :1]), loss="mse").hvp([np.ones((4, 1))])))
    np.testing.assert_array_equal(*products)


def test_a_frozen_normalisation_uses_its_moving_statistics():
    products = []
    for trainable in (True, False):
        model = net()
        model.layers[1].trainable = trainable
        products.append(flatten(Curvature(model, (X, Y)).hvp([np.ones((4, 3)), np.ones((3, 2))])))
    assert not np.allclose(*products, rtol=0.1)


def test_regularisation_is_not_part_of_the_loss():
    products = [Curvature(net(regularizer=r), (X, Y)).trace(2) for r in (None, keras.regularizers.L2(10.0))]
    assert products[0] == pytest.approx(products[1], rel=1e-6)


def test_compiled_once_and_reads_the_present_weights():
    model, traces = net(), []
    curvature = Curvature(model, (X, Y))
    loss = curvature._loss
    curvature._loss = lambda *arguments: traces.append(1) or loss(*arguments)
    seen, counts = [], []
    for step in range(3):
        model.layers[0].kernel.assign(model.layers[0].kernel * 0.5)
        seen.append(curvature.trace(1 + step, seed=step))
        curvature.top_eigenvalue(iterations=2 + step)
        product = flatten(curvature.hvp([np.ones((4, 3)), np.ones((3, 2))]))
        counts.append(len(traces))
    assert counts[0] == counts[2]
    assert len(set(seen)) == 3
    np.testing.assert_allclose(product, dense_hessian(model).sum(1), atol=1e-3)


class Look(keras.callbacks.Callback):
    """The curvature at every batch, and that of a fresh model with the same weights."""

    def __init__(self):
        super().__init__()
        self.curvature, self.pairs = None, []

    def on_train_batch_end(self, batch, logs=None):
        self.curvature = self.curvature or Curvature(self.model, (X, Y))
        found = self.curvature.trace(2)
        fresh = net()
        fresh.set_weights(self.model.get_weights())
        self.pairs.append((found, Curvature(fresh, (X, Y)).trace(2)))


def test_during_fit_the_present_weights_are_used():
    look = Look()
    net().fit(X, Y, batch_size=16, epochs=1, verbose=0, callbacks=[look])
    found, expected = np.array(look.pairs).T
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(found)) == 2


@pytest.mark.skipif(not on_tensorflow, reason="tf.distribute")
@pytest.mark.parametrize("inside", [False, True])
def test_two_replicas_measure_the_whole_batch(inside):
    expected, look = Curvature(net(), (X, Y)).trace(2), Look()
    strategy = two_cpu_strategy()
    with strategy.scope():
        model = net()
        if inside:
            assert Curvature(model, (X, Y)).trace(2) == pytest.approx(expected, rel=1e-6)
    if not inside:
        model.fit(X, Y, batch_size=16, epochs=1, verbose=0, callbacks=[look])
        found, expected = np.array(look.pairs).T
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_losses_of_several_outputs_are_added():
    inputs = keras.Input((4,))
    outputs = {name: layers.Dense(1, use_bias=False, name=name)(inputs) for name in "ab"}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mse"}, loss_weights={"a": 3.0, "b": 1.0})
    y = {name: np.zeros((32, 1), "float32") for name in "ab"}
    one, other = Curvature(model, (X, y)).hvp([np.ones((4, 1)), np.ones((4, 1))])
    np.testing.assert_allclose(other, 2 / 32 * X.T @ X @ np.ones((4, 1)), rtol=1e-4)
    np.testing.assert_allclose(one, 3 * np.asarray(other), rtol=1e-4)
    assert len(model.fit(X, y, epochs=1, verbose=0).history) == 3


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_similar_numbers(policy):
    expected = Curvature(net(), (X, Y)).top_eigenvalue(iterations=10)[0]
    value, vectors = Curvature(net(policy), (X, Y)).top_eigenvalue(iterations=10)
    assert value == pytest.approx(expected, rel=0.2)
    assert {keras.backend.standardize_dtype(v.dtype) for v in vectors} == {"float32"}


def test_an_error_says_what_to_write_instead():
    model = net()
    with pytest.raises(ValueError, match=r"loss=None.*Curvature\(model, data, loss='mse'\)"):
        Curvature(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), (X, Y))
    flat = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"no kernel of rank >= 2 among its 2 .*variables=model.trainable_variables"):
        Curvature(flat, (X, X), loss="mse")
    with pytest.raises(ValueError, match=r"\[32, 7\] rows: expected as many in each"):
        Curvature(model, (X, Y[:7]))
    with pytest.raises(TypeError, match=r"data=ndarray: expected one batch, \(x, y\)"):
        Curvature(model, X)
    with pytest.raises(ValueError, match="no weights yet"):
        Curvature(keras.Sequential([layers.Dense(2)]), (X, Y))
    with pytest.raises(ValueError, match="is not a variable of model"):
        Curvature(model, (X, Y), variables=[keras.Variable(1.0)])
    curvature = Curvature(model, (X, Y))
    with pytest.raises(ValueError, match=r"vectors of shapes \[\(4, 3\)\]: expected .*\[\(4, 3\), \(3, 2\)\]"):
        curvature.hvp([np.ones((4, 3))])
    with pytest.raises(ValueError, match="masks of shapes"):
        curvature.trace(masks=[np.ones((4, 3)), np.ones((2, 3))])
    with pytest.raises(ValueError, match="iterations=0: expected an integer >= 1"):
        curvature.top_eigenvalue(iterations=0)
    with pytest.raises(ValueError, match="probes=0: expected"):
        curvature.trace(0)
