"""Operations element by element, merges, gates and shapes, for random models; and what must be frozen."""

import numpy as np
from keras import layers, ops
from structured.dice import (
    OTHER,
    OTHER_ACTIVATIONS,
    PLAIN_ACTIVATIONS,
    activation,
    partner,
    pick,
    same_conv,
    smallest,
    space,
    takes,
    to_vector,
)

# --------------------------------------------------------------------------------------------------- element by element


@takes(2, 3, 4, weight=2)
def normalise(dice, x, pool):
    """BatchNormalization with gamma and beta, or without: `mask_channels` must make zeros of all."""
    return layers.BatchNormalization(scale=dice.chance(0.7), center=dice.chance(0.7))(x)


@takes(3, 4, table=OTHER)
def normalise_places(dice, x, pool):
    """Over another axis than the channels'."""
    return layers.BatchNormalization(axis=1)(x)


@takes(2, 3, 4, weight=2)
def nonlinear(dice, x, pool):
    """Layers and functions that fix zero."""
    shared = list(range(1, len(x.shape) - 1)) if dice.chance(0.6) else None
    return dice.one(
        layers.ReLU(),
        layers.ReLU(6.0, negative_slope=0.1),
        layers.ReLU(threshold=0.1),
        layers.PReLU(shared_axes=shared),
        layers.LeakyReLU(),
        layers.ELU(),
        layers.Activation(dice.one(*PLAIN_ACTIVATIONS)),
        ops.relu,
        ops.silu,
        ops.tanh,
    )(x)


@takes(2, 3, 4, table=OTHER)
def nonlinear_to_constant(dice, x, pool):
    """Those that do not fix zero."""
    shifted = layers.ReLU(6.0, negative_slope=0.1, threshold=0.1)
    return dice.one(layers.Activation(dice.one(*OTHER_ACTIVATIONS[:3])), ops.sigmoid, ops.softplus, shifted)(x)


@takes(2, 3, 4)
def arithmetic(dice, x, pool):
    """Operators that fix zero."""
    return dice.one(
        lambda t: t * 2,
        lambda t: 0.5 * t,
        lambda t: -t,
        lambda t: t / 3.0,
        ops.abs,
        ops.negative,
        layers.Rescaling(0.5),
        lambda t: ops.clip(t, -1.0, 1.5),
    )(x)


@takes(2, 3, 4, table=OTHER)
def arithmetic_to_constant(dice, x, pool):
    """Operators that do not."""
    return dice.one(
        lambda t: t + 1.0,
        lambda t: 1.0 - t,
        layers.Rescaling(0.5, offset=0.3),
        ops.cos,
        lambda t: ops.maximum(t, 0.2),
        lambda t: t + np.linspace(0.0, 1.0, t.shape[-1], dtype="float32"),
        lambda t: t * np.linspace(0.5, 1.0, t.shape[-1], dtype="float32"),
    )(x)


@takes(2, 3, 4)
def noise(dice, x, pool):
    """Nothing, in inference."""
    kinds = [layers.Dropout(0.5), layers.GaussianNoise(0.1)]
    if space(x):
        kinds.append(pick(space(x), "SpatialDropout")(0.5))
    return dice.one(*kinds)(x)


# --------------------------------------------------------------------------------------------- several tensors into one


@takes(2, 3, 4, weight=4)
def merge(dice, x, pool):
    """Tensors of equal shape, by a layer, an operator or a function."""
    others = [partner(dice, x, pool) for _ in range(dice.one(1, 1, 2))]
    if len(others) == 2:
        return dice.one(layers.Add(), layers.Multiply(), layers.Average(), layers.Maximum())([x, *others])
    y = others[0]
    return dice.one(
        lambda: layers.Add()([x, y]),
        lambda: layers.Subtract()([x, y]),
        lambda: layers.Multiply()([x, y]),
        lambda: layers.Maximum()([x, y]),
        lambda: layers.Minimum()([x, y]),
        lambda: layers.Average()([x, y]),
        lambda: x + y,
        lambda: x - y,
        lambda: x * y,
        lambda: ops.add(x, y),
        lambda: ops.maximum(x, y),
        lambda: x + x,
    )()


@takes(2, 3, 4, weight=3)
def concatenate(dice, x, pool):
    """Along the channels."""
    alike = [t for t in pool if t is not x and t.shape[:-1] == x.shape[:-1] and t.shape[-1] < 12]
    others = [dice.one(*alike) if alike and dice.chance(0.5) else same_conv(dice, x) for _ in range(dice.one(1, 1, 2))]
    tensors = [x, *others] if dice.chance(0.7) else [others[0], x, *others[1:]]
    if dice.chance(0.2):
        return ops.concatenate(tensors, axis=-1)
    return layers.Concatenate(axis=dice.one(-1, len(x.shape) - 1))(tensors)


@takes(3, 4)
def concatenate_in_space(dice, x, pool):
    """Channels tied, one image beside the other."""
    if smallest(x) > 10:
        return None
    return layers.Concatenate(axis=dice.between(1, space(x)))([x, partner(dice, x, pool)])


@takes(3, 4, weight=3)
def gate(dice, x, pool):
    """Squeeze and excitation, in the forms that keras.applications has."""
    channels, final = x.shape[-1], dice.one("sigmoid", "hard_sigmoid")
    if dice.chance(0.5):
        g = pick(space(x), "GlobalAveragePooling")(keepdims=True)(x)
        g = pick(space(x), "Conv")(dice.width(), 1, activation=dice.one("relu", "swish"))(g)
        g = pick(space(x), "Conv")(channels, 1, activation=final)(g)
    else:
        g = pick(space(x), "GlobalAveragePooling")()(x)
        g = layers.Reshape((*[1] * space(x), channels))(g) if dice.chance(0.5) else g
        g = layers.Dense(dice.width(), activation="relu")(g)
        g = layers.Dense(channels, activation=final)(g)
        g = g if len(g.shape) > 2 else layers.Reshape((*[1] * space(x), channels))(g)
    return layers.Multiply()([x, g]) if dice.chance(0.6) else x * g


@takes(3, 4)
def spatial_gate(dice, x, pool):
    """One channel times all: no channel of x is tied to it."""
    return x * pick(space(x), "Conv")(1, 1, activation="sigmoid")(x)


@takes(3, 4, weight=2)
def shared_conv(dice, x, pool):
    """One convolution called on two tensors."""
    layer = pick(space(x), "Conv")(dice.width(), dice.one(1, 3), padding="same", activation=activation(dice))
    y = partner(dice, x, pool)
    return dice.one(layers.Add(), layers.Concatenate(), layers.Multiply())([layer(x), layer(y)])


@takes(2)
def shared_dense(dice, x, pool):
    """One Dense called on two tensors."""
    layer = layers.Dense(dice.width(), activation=activation(dice))
    return dice.one(layers.Add(), layers.Concatenate())([layer(x), layer(partner(dice, x, pool))])


# ------------------------------------------------------------------------------------------------------ space and shape


@takes(3, 4, weight=2)
def pool_down(dice, x, pool):
    """Maximum or average, padded or not."""
    if smallest(x) < 4:
        return None
    kind = pick(space(x), dice.one("MaxPooling", "AveragePooling"))
    return kind(dice.one(2, 3), strides=dice.one(1, 2), padding=dice.one("valid", "same"))(x)


@takes(3, 4, weight=2)
def resize(dice, x, pool):
    """Padding, cropping, upsampling."""
    if smallest(x) < 4 or smallest(x) > 12:
        return None
    kinds = [pick(space(x), "ZeroPadding")(1), pick(space(x), "Cropping")(1), pick(space(x), "UpSampling")(2)]
    if space(x) == 2:
        kinds.append(layers.UpSampling2D(2, interpolation="bilinear"))
        kinds.append(lambda t: ops.pad(t, [[0, 0], [1, 0], [0, 1], [0, 0]]))
    return dice.one(*kinds)(x)


@takes(2, 3, 4)
def pad_channels(dice, x, pool):
    """The shortcut of ResNet's option A: channels of zeros around, then an Add."""
    before, after = dice.between(0, 2), dice.between(0, 2)
    y = ops.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[before, after]])
    return layers.Add()([y, same_conv(dice, x, y.shape[-1])]) if dice.chance(0.7) else y


@takes(3, 4)
def to_features(dice, x, pool):
    """From here on a vector."""
    return to_vector(dice, x)


# -------------------------------------------------------------------------------------- what nobody needs to understand


@takes(2, 3, 4, table=OTHER, weight=2)
def opaque(dice, x, pool):
    """Operations that mix or move channels: whatever feeds them must keep its width."""
    kinds = [layers.LayerNormalization(), layers.Softmax(), lambda t: ops.softmax(t), lambda t: t[..., ::-1]]
    kinds += [lambda t: ops.cumsum(t, axis=-1), layers.UnitNormalization(), lambda t: ops.flip(t, axis=-1)]
    if x.shape[-1] % 2 == 0:
        kinds += [layers.GroupNormalization(2)] if space(x) else []
    return dice.one(*kinds)(x)


@takes(3, 4, table=OTHER)
def reshape(dice, x, pool):
    """Axes moved: some keep the channels last, some do not."""
    *sides, channels = x.shape[1:]
    if len(sides) == 1:
        return dice.one(layers.Permute((2, 1)), layers.Reshape((channels, sides[0])))(x)
    return dice.one(layers.Permute((2, 1, 3)), layers.Reshape((sides[0] * sides[1], channels)))(x)


@takes(3, table=OTHER)
def attention(dice, x, pool):
    """Of a sequence to itself."""
    return layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)])


@takes(3, table=OTHER)
def recurrent(dice, x, pool):
    """A GRU reads its channels, and nobody shrinks it."""
    return layers.GRU(dice.width())(x)
