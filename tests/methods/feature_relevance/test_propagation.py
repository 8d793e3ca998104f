"""Relevance against golden numbers and against sums over single contributions in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfsparse.methods.feature_relevance import propagation

ONE_CLASS = np.array([[1.0, 0.0]], "float32")
# x = (1, 2) gives h = (1 - 0.5, -1 + 2) and the outputs (4 * 0.5 - 1, -0.5 + 2)
FIRST = np.array([[1.0, -1.0], [-0.25, 1.0]], "float32")
SECOND = np.array([[4.0, -1.0], [-1.0, 2.0]], "float32")


def two_layers():
    dense = [layers.Dense(2, "relu", name="first"), layers.Dense(2, name="second")]
    model = keras.Sequential([keras.Input((2,)), *dense])
    for layer, kernel in zip(dense, (FIRST, SECOND), strict=True):
        layer.set_weights([kernel, np.array([0.0, 0.0], "float32")])
    return model


def relevance(model, x, labels, names):
    found, _ = propagation.propagate(model, ops.convert_to_tensor(x), labels, [model.get_layer(name) for name in names])
    return [ops.convert_to_numpy(r) for r in found]


def test_golden_relevance_of_two_layers():
    x = np.array([[1.0, 2.0]], "float32")
    first, second = relevance(two_layers(), x, ONE_CLASS, ["first", "second"])
    np.testing.assert_allclose(second, [[1, 0]])  # it begins with 1, whatever the output is
    # contributions 2 and -1 to the first output: alpha * 2 / 2 and -beta * -1 / -1
    np.testing.assert_allclose(first, [[2, -1]], rtol=1e-6)
    at_input = propagation.kernel_relevance(ops.matmul, ops.convert_to_tensor(x), FIRST, first)
    # from h0: 2 * 2 and -1 * 2; from h1: -1 * -1 and 2 * -1
    np.testing.assert_allclose(ops.convert_to_numpy(at_input), [[4 + 1, -2 - 2]], rtol=1e-6)


def test_alpha_and_beta_weigh_the_signs():
    x, r = ops.convert_to_tensor(np.array([[0.5, 1.0]], "float32")), ops.convert_to_tensor(ONE_CLASS)
    found = propagation.kernel_relevance(ops.matmul, x, SECOND, r, alpha=1.0, beta=0.0)
    np.testing.assert_allclose(ops.convert_to_numpy(found), [[1, 0]], rtol=1e-6)
    found = propagation.kernel_relevance(ops.matmul, -x, SECOND, r)  # a negative input turns the signs around
    np.testing.assert_allclose(ops.convert_to_numpy(found), [[-1, 2]], rtol=1e-6)


def reference(x, kernel, r, stride):
    """The relevance of the inputs of a convolution without padding, contribution by contribution."""
    result, size = np.zeros_like(x, "float64"), kernel.shape[0]
    for example, row, column, channel in np.ndindex(r.shape):
        window = (example, slice(row * stride, row * stride + size), slice(column * stride, column * stride + size))
        c = x[window].astype("float64") * kernel[..., channel]
        positive, negative = np.maximum(c, 0), np.minimum(c, 0)
        shares = sum(k * c / c.sum() for k, c in ((2, positive), (-1, negative)) if c.any())
        result[window] += shares * r[example, row, column, channel]
    return result


def test_a_convolution_against_numpy():
    random = np.random.default_rng(0)
    x, r = (random.normal(size=shape).astype("float32") for shape in ((2, 7, 7, 3), (2, 3, 3, 4)))
    layer = layers.Conv2D(4, 3, strides=2)
    layer.build(x.shape)
    kernel = ops.convert_to_numpy(layer.kernel)
    found = propagation.kernel_relevance(
        layer.convolution_op, ops.convert_to_tensor(x), kernel, ops.convert_to_tensor(r)
    )
    expected = reference(x, kernel, r, stride=2)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(expected.sum((1, 2, 3)), r.sum((1, 2, 3)), rtol=1e-6)


def test_a_depthwise_convolution_is_one_convolution_per_channel():
    random = np.random.default_rng(2)
    x, r = (random.normal(size=shape).astype("float32") for shape in ((2, 5, 5, 2), (2, 3, 3, 2)))
    inputs = keras.Input((5, 5, 2))
    layer = layers.DepthwiseConv2D(3, name="depthwise")
    model = keras.Model(inputs, layer(inputs))
    kernel = ops.convert_to_numpy(layer.kernel)
    assert model.count_params() == 20
    function = propagation.without_bias(layer)
    found = propagation.kernel_relevance(function, *map(ops.convert_to_tensor, (x, kernel, r)))
    for c in range(2):
        one = slice(c, c + 1)
        expected = reference(x[..., one], kernel[..., one, :], r[..., one], stride=1)
        np.testing.assert_allclose(ops.convert_to_numpy(found)[..., one], expected, rtol=1e-3, atol=1e-4)


def convolutional():
    """Operations of many kinds, with a model inside. All sums have many terms, so that both signs are among them."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="inner")(x)
    x = layers.Add(name="add")([ops.relu(x), y])
    x = layers.MaxPooling2D(2, name="pool")(layers.ZeroPadding2D(1, name="zeros")(x))
    block = keras.Input((5, 5, 8))
    within = layers.Conv2D(6, 3, activation="relu", name="within")(block)
    x = keras.Model(block, within, name="block")(x)
    x = layers.Concatenate(name="both")([layers.Flatten(name="flat")(x), layers.Flatten(name="again")(x)])
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="head")(layers.Dropout(0.5, name="drop")(x)))


def test_the_sum_of_the_relevance_stays_in_every_layer():
    model = convolutional()
    names = {"stem": 64, "within": 9}
    picked = [model.get_layer("stem"), model.get_layer("block").get_layer("within"), model.get_layer("head")]
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype("float32")
    labels = np.eye(2, dtype="float32")[[0, 1, 1]]
    found, outputs = propagation.propagate(model, ops.convert_to_tensor(x), labels, picked)
    stem, within, head = (ops.convert_to_numpy(r) for r in found)
    np.testing.assert_allclose(head, labels)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(within.sum(axis=1) * names["within"], 1, rtol=1e-3)
    np.testing.assert_allclose(stem.sum(axis=1) * names["stem"], 1, rtol=1e-3)
    assert stem.shape == (3, 8) and within.shape == (3, 6)


def test_an_addition_shares_by_the_parts_and_a_tensor_that_is_used_twice_gets_both():
    inputs = keras.Input((1,))
    a, b = layers.Dense(2, "relu", name="a")(inputs), layers.Dense(2, "relu", name="b")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Add()([a, b, a])))
    for name, kernel in (("a", [[1.0, 2.0]]), ("b", [[2.0, 0.0]]), ("head", [[1.0, 0.0], [1.0, -1.0]])):
        layer = model.get_layer(name)
        layer.set_weights([np.array(kernel, "float32"), np.zeros(2, "float32")])
    found = relevance(model, np.ones((1, 1), "float32"), ONE_CLASS, ["a", "b"])
    # the sum is (1 + 2 + 1, 2 + 0 + 2): both contribute 4 to the first output, so each has alpha / 2 = 1
    np.testing.assert_allclose(found, [[[0.5, 1]], [[0.5, 0]]], rtol=1e-6)


@pytest.mark.parametrize(
    "layer, name",
    [(layers.LayerNormalization(name="norm"), "norm, a LayerNormalization"), (layers.Dense(1), None)],
)
def test_models_without_rules_or_classes_are_refused(layer, name):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layer, *([layers.Dense(2)] if name else [])])
    match = "'norm', a LayerNormalization: expected dense" if name else r"outputs of shape \(None, 1\): .*two classes"
    with pytest.raises(ValueError, match=match):
        propagation.check(model)
