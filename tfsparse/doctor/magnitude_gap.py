"""Find weights that are nearly sparse: most entries tiny, none zero, and a gap in the magnitudes above them.

Magnitude pruning keeps no entry below a threshold. If the optimizer makes one more step and no mask is applied, zeros
become tiny numbers. The histogram of the magnitudes then has two hills with a valley between; ordinary training makes
one hill.
"""

import dataclasses

import numpy as np

MIN_DEPTH = 10  # height of the lower hill over the valley; ordinary training makes at most 3, with an L1 penalty 8
MIN_TINY = 0.1  # fraction of all entries that are tiny and not zero
_OCTAVES = 20  # below the largest magnitude; smaller entries count as of the last octave


@dataclasses.dataclass(frozen=True)
class Gap:
    """A gap in the magnitudes of a weight.

    Args:
        tiny: Fraction of entries that are below the gap and not zero.
        below: Fraction of entries that are below the gap, zeros included.
        magnitude: A magnitude in the gap.
    """

    tiny: float
    below: float
    magnitude: float


def find_gap(weight: np.ndarray) -> Gap | None:
    """Return the gap in the magnitudes of a weight; None if there is none.

        octaves = histogram(log2 |w|) of all entries that are not zero
        a gap is an octave with 10 times fewer entries than some octave below it and some octave above it

    Args:
        weight: An array of any shape.

    Returns:
        The gap, or None.

    Examples:
        >>> find_gap(np.concatenate([np.full(800, 1e-3), np.linspace(0.5, 1, 200)])).below
        0.8
    """
    magnitudes = np.abs(weight[weight != 0]).astype(np.float64)
    if not magnitudes.size or not np.isfinite(magnitudes).all():
        return None
    octave = np.floor(np.log2(magnitudes)).astype(int)
    lowest = octave.max() - _OCTAVES
    counts = np.bincount(np.maximum(octave - lowest, 0), minlength=_OCTAVES + 1)
    lower, upper = np.maximum.accumulate(counts)[:-2], np.maximum.accumulate(counts[::-1])[::-1][2:]
    depths = np.minimum(lower, upper) / (counts[1:-1] + 1)
    deepest = int(np.argmax(depths)) + 1
    tiny = float(np.sum(counts[:deepest]) / weight.size)
    if depths[deepest - 1] < MIN_DEPTH or tiny < MIN_TINY:
        return None
    return Gap(tiny, tiny + float(np.mean(weight == 0)), float(2.0 ** (deepest + lowest + 0.5)))
