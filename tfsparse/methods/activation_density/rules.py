"""What `ActivationDensity` decides by: numbers in, numbers out."""

import math
from collections.abc import Sequence

import numpy as np

SHARE = 0.95  # of the groups must be saturated
FULL = 0.9  # a network as dense as this is not resized any more


def resized(width: int, density: float, smallest: int = 1, multiple: int = 1) -> int:
    """The width that a density asks for.

        multiple * floor(width * density / multiple + 1/2), at least `smallest`, at most `width`

    A half goes up, where Python's `round` would go to the even number. `density` is in [0, 1].

    >>> resized(64, 0.4), resized(5, 0.5), resized(64, 0.4, multiple=8), resized(64, 0.01, smallest=8)
    (26, 3, 24, 8)
    """
    least = multiple * math.ceil(smallest / multiple)
    return min(width, max(least, multiple * math.floor(width * density / multiple + 0.5)))


def saturated(densities: Sequence, window: int, tolerance: float) -> bool:
    """Has the density of nearly all groups (95 %) come to rest?

        max - min over the last `window` epochs < tolerance

    `densities` has a row per epoch since the last resize and a column per group.

    >>> saturated([[0.9], [0.500], [0.505]], window=2, tolerance=0.01), saturated([[0.5]], window=2, tolerance=0.01)
    (True, False)
    """
    if len(densities) < window:
        return False
    last = np.asarray(densities[-window:], float)
    return bool(np.mean(last.max(axis=0) - last.min(axis=0) < tolerance) >= SHARE)


def due(
    densities: Sequence, window: int, tolerance: float, min_epochs: int, max_epochs: int, epochs_left: int
) -> bool:
    """Is the stage to end with a resize? `densities` as for `saturated`.

        min_epochs <= epochs of the stage, min_epochs <= epochs_left
        and (saturated, or max_epochs <= epochs of the stage)

    >>> due([[0.9], [0.7]], 2, 0.01, 1, max_epochs=2, epochs_left=1)
    True
    """
    if min(len(densities), epochs_left) < min_epochs:
        return False
    return len(densities) >= max_epochs or saturated(densities, window, tolerance)


def fallen(before: Sequence[float], now: Sequence[float], tolerance: float, lower_is_better: bool = False) -> bool:
    """Is the best of this stage's epochs worse than the best of the stage before, by more than the tolerance?

    >>> fallen([0.90, 0.92], [0.91, 0.90], tolerance=0.02), fallen([0.90, 0.95], [0.91, 0.92], tolerance=0.02)
    (False, True)
    """
    if not before or not now:
        return False
    if lower_is_better:
        return min(now) - min(before) > tolerance
    return max(before) - max(now) > tolerance


def best(densities: Sequence[float], norms: Sequence[float], count: int) -> np.ndarray:
    """Indices, rising, of the `count` channels of the highest density; ties by larger norm, then by lower index.

    >>> best([0.1, 0.5, 0.5, 0.9], [9.0, 1.0, 2.0, 0.0], 2)
    array([2, 3])
    """
    order = np.lexsort((-np.asarray(norms), -np.asarray(densities)))  # stable, and the last key counts first
    return np.sort(order[:count])


def training_complexity(macs: Sequence[float], dense: float) -> float:
    """Multiply-adds of all epochs against those of as many epochs of the dense network.

        sum of macs / (epochs * dense)

    `macs`: of one example, per epoch that was trained.

    >>> training_complexity([100, 100, 50, 50], dense=100)
    0.75
    """
    return sum(macs) / (len(macs) * dense)
