"""Models whose groups can be told by looking at them, with numbers that are nobody's defaults."""

import keras
import numpy as np
from keras import layers, ops


def randomised(model, seed=0):
    """The model with random weights and statistics everywhere."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.dtype.startswith("float"):
            low = 0.5 if variable.name in ("gamma", "moving_variance") else -1.0
            variable.assign(rng.uniform(low, 1.5, variable.shape))
    return model


def model(function, shape=(6, 6, 3), **options):
    """`function(input)` as a model with random weights."""
    inputs = keras.Input(shape)
    return randomised(keras.Model(inputs, function(inputs), **options))


def residual():
    """A stem, a block with a free inner convolution, and a head."""

    def net(x):
        stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
        y = layers.Conv2D(5, 3, padding="same", use_bias=False, name="inner")(stem)
        y = layers.ReLU(name="inner_relu")(layers.BatchNormalization(name="inner_bn")(y))
        y = layers.Conv2D(4, 3, padding="same", name="outer")(y)
        y = layers.ReLU(name="relu")(layers.Add()([stem, y]))
        return layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(y))

    return model(net)


def gate(x, name, units=2):
    """Squeeze and excitation."""
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(units, 1, activation="relu", name=f"{name}_squeeze")(y)
    y = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_excite")(y)
    return layers.Multiply()([x, y])


def images(model, count=3, seed=1):
    """Random input of a model."""
    shapes = [(count, *t.shape[1:]) for t in model.inputs]
    arrays = [np.random.default_rng(seed).normal(size=s).astype("float32") for s in shapes]
    return arrays[0] if len(arrays) == 1 else arrays


def output(model, x):
    """In inference mode."""
    return ops.convert_to_numpy(model(x))


def assert_equal_outputs(small, model):
    """To 1e-4 of the largest output."""
    x = images(model)
    expected = output(model, x)
    np.testing.assert_allclose(output(small, x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
