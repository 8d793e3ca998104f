"""What whole units reach of a target: channels, blocks and N:M cannot give every number of zeros."""

import math
import warnings
from collections.abc import Iterable
from typing import NamedTuple

_TOLERANCE = 0.005


class Reached(NamedTuple):
    """A target, and how near the units come to it.

    Attributes:
        what: The weight or weights that have the target.
        size: Number of their entries.
        sparsity: The target.
        count: Number of entries that will be pruned.
    """

    what: str
    size: int
    sparsity: float
    count: int


def reached_by(variable, sparsity: float, count: int) -> Reached:
    """Return what a weight reaches of its target.

    Args:
        variable: The weight.
        sparsity: The target.
        count: Number of entries that will be pruned.
    """
    shape = tuple(variable.shape)
    return Reached(f"{variable.path} {shape}", math.prod(shape), sparsity, int(count))


def warn_of_missed(pruner, targets: Iterable[Reached]) -> None:
    """Warn if a number of zeros differs from its target by more than half a point, and by an entry or more.

    Args:
        pruner: The pruner.
        targets: The targets of all weights.
    """
    missed = [
        f"{t.what}: {t.count / t.size:.4g} instead of {t.sparsity:g}{'' if t.count else ', it stays dense'}"
        for t in targets
        if abs(t.count - t.sparsity * t.size) >= max(1, _TOLERANCE * t.size)
    ]
    if missed:
        warnings.warn(
            f"{pruner!r} prunes whole units, which come no nearer to the target than this: {'; '.join(missed)}. For "
            "the target itself take smaller units, or widths that they divide; exclude what is to stay dense.",
            stacklevel=2,
        )
