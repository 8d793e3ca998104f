"""Detect the granularity of the zeros of a weight."""

import dataclasses

import numpy as np
from keras import ops

from tfsparse.export import tflite_rules
from tfsparse.masks import granularity

MIN_COVERAGE = 0.99  # fraction of all zeros in a pattern; single zeros reach it by chance only above 99.6 % sparsity
MIN_SPARSITY = 0.05  # a weight with fewer zeros counts as dense; rounding to int8 alone makes 1 or 2 %
BLOCK = granularity.get(tflite_rules.GRANULARITY)


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The zeros of a weight.

    Args:
        sparsity: Fraction of zeros in [0, 1].
        name: The `granularity` that prunes such zeros: "channel", "(1, 4)", "2:4" or "weight"; "dense" if there are
            hardly any.
        empty_channels: Fraction of output channels whose entries are all zero.
    """

    sparsity: float
    name: str
    empty_channels: float


def detect(kernel: np.ndarray) -> Pattern:
    """Return the coarsest pattern that has nearly all zeros (99 %) of a weight.

    Args:
        kernel: An array with outputs on the last axis and inputs on the one before it.

    Returns:
        The pattern.

    Examples:
        >>> detect(np.eye(8)[:, :4]).name, detect(np.repeat(np.eye(4), 4, axis=0)).name
        ('weight', '(1, 4)')
    """
    sparsity = float(np.mean(kernel == 0)) if kernel.size else 0.0
    channels = _fraction_in_empty_units(kernel, granularity.Channel())
    return Pattern(sparsity, "dense" if sparsity < MIN_SPARSITY else _name(kernel, sparsity, channels), channels)


def _name(kernel, sparsity, channels):
    if channels >= MIN_COVERAGE * sparsity:
        return "channel"
    if kernel.shape[-2] >= BLOCK.inputs and _fraction_in_empty_units(kernel, BLOCK) >= MIN_COVERAGE * sparsity:
        return str(BLOCK)
    return "2:4" if _is_two_of_four(kernel) else "weight"


def _fraction_in_empty_units(kernel, units):
    """Return the fraction of entries in units whose entries are all zero."""
    nonzero = ops.convert_to_tensor((kernel != 0).astype("float32"))
    empty = ops.cast(units.pool(nonzero) == 0, "float32")
    return float(np.mean(ops.convert_to_numpy(units.expand(empty, nonzero)))) if kernel.size else 0.0


def _is_two_of_four(kernel):
    """Return whether nearly all groups of four consecutive inputs have two non-zero entries, and none has more."""
    inputs = kernel.shape[-2] // 4 * 4
    groups = np.moveaxis(kernel[..., :inputs, :], -2, -1).reshape(-1, 4)
    nonzero = np.count_nonzero(groups, axis=1)
    return bool(len(groups) and np.all(nonzero <= 2) and np.mean(nonzero == 2) >= MIN_COVERAGE)
