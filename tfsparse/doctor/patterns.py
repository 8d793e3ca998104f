"""In which pattern the zeros of a weight stand."""

import dataclasses

import numpy as np
from keras import ops

from tfsparse.masks import granularity

COVERS = 0.99  # of all zeros: then a pattern is no accident, below 99.6 % of single zeros
FREQUENT = 0.05  # zeros below this share are nobody's pruning; rounding to int8 makes 1 or 2 %
BLOCK = granularity.Block(1, 4)


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The zeros of a weight.

    zeros: their share. name: what `granularity=` would make them so, "dense" where there are next to none.
    empty_channels: the share of channels without a living entry.
    """

    zeros: float
    name: str
    empty_channels: float


def found(kernel: np.ndarray) -> Pattern:
    """The coarsest pattern in which nearly all zeros (99 %) stand: "channel", "(1, 4)", "2:4" or "weight".

    Args: kernel: outputs on the last axis, inputs on the one before it.

    >>> found(np.eye(8)[:, :4]).name, found(np.repeat(np.eye(4), 4, axis=0)).name
    ('weight', '(1, 4)')
    """
    zeros = float(np.mean(kernel == 0)) if kernel.size else 0.0
    channels = _covered(kernel, granularity.Channel())
    name = "dense" if zeros < FREQUENT else _name(kernel, zeros, channels)
    return Pattern(zeros, name, channels)


def _name(kernel, zeros, channels):
    if channels >= COVERS * zeros:
        return "channel"
    if kernel.shape[-2] >= BLOCK.inputs and _covered(kernel, BLOCK) >= COVERS * zeros:
        return "(1, 4)"
    return "2:4" if _is_two_of_four(kernel) else "weight"


def _covered(kernel, units):
    """The share of entries in units in which nothing lives."""
    alive = ops.convert_to_tensor((kernel != 0).astype("float32"))
    empty = ops.cast(units.pool(alive) == 0, "float32")
    return float(np.mean(ops.convert_to_numpy(units.expand(empty, alive)))) if kernel.size else 0.0


def _is_two_of_four(kernel):
    """Do two live in each group of four consecutive inputs, fewer in a few?"""
    inputs = kernel.shape[-2] // 4 * 4
    groups = np.moveaxis(kernel[..., :inputs, :], -2, -1).reshape(-1, 4)
    living = np.count_nonzero(groups, axis=1)
    return bool(len(groups) and np.all(living <= 2) and np.mean(living == 2) >= COVERS)
