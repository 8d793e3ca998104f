"""What the operations of random models share: dice, a register, and the parts that many need.

An operation is a function (dice, tensor, earlier tensors) -> tensor, or None where it does not fit. Those under PLAIN
take zero channels to zero channels; OTHER may turn a masked channel into a constant, or nobody understands them.
"""

import numpy as np
from keras import layers, ops

PLAIN_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "tanh", "swish", "gelu", "hard_swish", "mish")
OTHER_ACTIVATIONS = ("sigmoid", "hard_sigmoid", "softplus", "exponential")
PLAIN, OTHER = {}, {}


class Dice:
    """Random choices of one seed."""

    def __init__(self, seed: int):
        self.generator = np.random.default_rng(seed)

    def one(self, *options):
        """One of them."""
        return options[self.generator.integers(len(options))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """True as often as that."""
        return bool(self.generator.random() < probability)

    def width(self) -> int:
        """Channels of a layer."""
        return self.between(2, 8)


def operations(rank: int, plain: bool) -> list:
    """What can be done to a tensor of this rank, batch included."""
    return PLAIN[rank] if plain else PLAIN[rank] + OTHER[rank]


def takes(*ranks: int, table: dict = PLAIN, weight: int = 1):
    """Decorator: an operation of tensors of these ranks, drawn `weight` times as often as one of weight 1."""

    def register(function):
        for rank in ranks:
            table.setdefault(rank, []).extend([function] * weight)
        return function

    return register


def pick(rank: int, kind: str):
    """`Conv` with 2 dimensions -> Conv2D; `ConvTranspose` -> Conv2DTranspose."""
    name = kind.replace("Transpose", f"{rank}DTranspose") if "Transpose" in kind else f"{kind}{rank}D"
    return getattr(layers, name)


def space(x) -> int:
    """Number of spatial dimensions."""
    return len(x.shape) - 2


def activation(dice: Dice, plain: bool = True):
    """A name for `activation=`, or None."""
    return dice.one(None, None, *PLAIN_ACTIVATIONS, *(() if plain else OTHER_ACTIVATIONS))


def smallest(x) -> int:
    """The least spatial side."""
    return min(x.shape[1:-1])


def to_vector(dice: Dice, x):
    """Spatial dimensions away, by one of the usual ways."""
    if dice.chance(0.4):
        return dice.one(layers.Flatten(), layers.Reshape((-1,)))(x)
    if dice.chance(0.2):
        return ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
    return pick(space(x), dice.one("GlobalAveragePooling", "GlobalMaxPooling"))()(x)


def same_conv(dice: Dice, x, filters: int | None = None, kernel: int | None = None, **settings):
    """A convolution, or Dense for vectors, that keeps the spatial size."""
    filters = filters or dice.width()
    if not space(x):
        return layers.Dense(filters, use_bias=dice.chance(0.5), **settings)(x)
    kernel = kernel or dice.one(1, 3)
    return pick(space(x), "Conv")(filters, kernel, padding="same", use_bias=dice.chance(0.5), **settings)(x)


def partner(dice: Dice, x, pool: list):
    """Another tensor of the same shape: an older one, or a new branch that starts from x."""
    alike = [t for t in pool if t is not x and t.shape == x.shape]
    if alike and dice.chance(0.5):
        return dice.one(*alike)
    y = same_conv(dice, x, x.shape[-1])
    return batch_norm(dice, y) if dice.chance(0.5) else y


def batch_norm(dice: Dice, x):
    """With scale and centre: without one of them a masked channel is a constant."""
    return layers.BatchNormalization(epsilon=dice.one(1e-3, 1e-5))(x)
