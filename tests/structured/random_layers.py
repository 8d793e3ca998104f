"""Operations with kernels, and models as layers, for random models."""

import keras
from keras import layers
from structured.dice import (
    OTHER,
    OTHER_ACTIVATIONS,
    Dice,
    activation,
    batch_norm,
    partner,
    pick,
    same_conv,
    smallest,
    space,
    takes,
)

# -------------------------------------------------------------------------------------------------- layers with kernels


@takes(3, 4, weight=4)
def conv(dice, x, pool, plain=True):
    """All that a Conv layer can be asked for, and often BatchNormalization behind it."""
    kernel, stride, dilation = dice.one(1, 2, 3), dice.one(1, 1, 2), dice.one(1, 1, 2)
    settings = {"strides": stride} if stride > 1 else {"dilation_rate": dilation}
    valid = smallest(x) > 2 * kernel and dice.chance(0.5)
    layer = pick(space(x), "Conv")(
        dice.width(),
        kernel,
        padding="valid" if valid else "same",
        use_bias=dice.chance(0.6),
        activation=activation(dice, plain),
        **settings,
    )
    y = layer(x)
    after = layers.ReLU() if dice.chance(0.6) else layers.PReLU(shared_axes=dice.one(None, [*range(1, space(x) + 1)]))
    return after(batch_norm(dice, y) if dice.chance(0.6) else y) if dice.chance(0.5) else y


@takes(3, 4, table=OTHER, weight=3)
def conv_to_constant(dice, x, pool):
    """A masked filter may come out as sigmoid(0)."""
    return conv(dice, x, pool, plain=False)


@takes(2, weight=4)
def dense(dice, x, pool):
    """With or without bias and activation."""
    y = layers.Dense(dice.width(), use_bias=dice.chance(0.6), activation=activation(dice))(x)
    return layers.ReLU()(batch_norm(dice, y)) if dice.chance(0.4) else y


@takes(2, table=OTHER, weight=2)
def dense_to_constant(dice, x, pool):
    """Sigmoid and its kind."""
    return layers.Dense(dice.width(), activation=dice.one(*OTHER_ACTIVATIONS[:3]))(x)


@takes(3, 4)
def dense_on_last_axis(dice, x, pool):
    """Dense on images works on the channels."""
    return layers.Dense(dice.width(), activation=activation(dice))(x)


@takes(4)
def grouped_conv(dice, x, pool):
    """Groups of 2 or 3 channels each, behind a convolution that makes as many."""
    groups = dice.one(2, 3)
    y = same_conv(dice, x, groups * dice.one(2, 3), 1)
    return layers.Conv2D(groups * dice.between(1, 3), dice.one(1, 3), padding="same", groups=groups)(y)


@takes(3, 4, weight=2)
def depthwise(dice, x, pool):
    """Multiplier 1 or 2."""
    kernel = dice.one(2, 3)
    padding = "valid" if smallest(x) > kernel and dice.chance(0.5) else "same"
    settings = {"depth_multiplier": dice.one(1, 1, 2), "use_bias": dice.chance(0.5), "activation": activation(dice)}
    y = pick(space(x), "DepthwiseConv")(kernel, strides=dice.one(1, 1, 2), padding=padding, **settings)(x)
    return layers.ReLU(6.0)(batch_norm(dice, y)) if dice.chance(0.4) else y


@takes(3, 4)
def separable(dice, x, pool):
    """Depthwise and pointwise in one layer."""
    settings = {"depth_multiplier": dice.one(1, 1, 2), "use_bias": dice.chance(0.5), "activation": activation(dice)}
    return pick(space(x), "SeparableConv")(dice.width(), 3, padding="same", **settings)(x)


@takes(3, 4, weight=2)
def transposed(dice, x, pool):
    """Kernels with outputs before inputs."""
    if smallest(x) > 10:
        return None
    settings = {"padding": dice.one("same", "valid"), "use_bias": dice.chance(0.5), "activation": activation(dice)}
    return pick(space(x), "ConvTranspose")(dice.width(), dice.one(2, 3), strides=dice.one(1, 2), **settings)(x)


# ----------------------------------------------------------------------------------------------------- models in models


@takes(2, 3, 4, weight=3)
def nested(dice, x, pool):
    """A Functional or Sequential model as a layer, called once or twice."""
    inner = dice.one(_inner_functional, _inner_sequential)(dice, x.shape[1:])
    if dice.chance(0.3):
        return layers.Add()([inner(x), inner(partner(dice, x, pool))])
    return inner(x)


def _inner_functional(dice, shape):
    inputs = keras.Input(shape)
    x = same_conv(dice, inputs, activation=activation(dice))
    if dice.chance(0.5):
        x = layers.Add()([batch_norm(dice, x), same_conv(dice, x, x.shape[-1])])
    if dice.chance(0.3):
        x = _inner_sequential(dice, x.shape[1:])(x)
    return keras.Model(inputs, x)


def _inner_sequential(dice, shape):
    chain = [layer for _ in range(dice.between(1, 2)) for layer in conv_chain(dice, True, len(shape) - 1)]
    return keras.Sequential([keras.Input(shape), *chain])


# ----------------------------------------------------------------------------------------------------------- Sequential


def conv_chain(dice: Dice, plain: bool, rank: int) -> list:
    """A producer of channels and what usually follows."""
    if rank:
        first = pick(rank, "Conv")(dice.width(), dice.one(1, 3), padding="same", use_bias=dice.chance(0.5))
    else:
        first = layers.Dense(dice.width(), use_bias=dice.chance(0.5))
    rest = [layers.BatchNormalization(), layers.Activation(activation(dice, plain) or "relu"), layers.Dropout(0.3)]
    if rank:
        rest.append(pick(rank, "DepthwiseConv")(3, padding="same"))
    return [first, *[layer for layer in rest if dice.chance(0.5)]]
