"""Weights that are nearly sparse: most of them tiny, none zero, and a gap above them.

Pruning by magnitude leaves nothing alive below a threshold. If an optimizer steps once more and no mask follows, what
was zero becomes tiny: on the scale of magnitudes two hills with a valley between. Ordinary training makes one hill.
"""

import dataclasses

import numpy as np

DEPTH = 10  # the lower hill over the valley; ordinary training gives 3 at most, with an L1 penalty 8
SHARE = 0.1  # of all entries, that are tiny and not zero
_OCTAVES = 20  # below the largest magnitude; what is smaller still counts as of the last one


@dataclasses.dataclass(frozen=True)
class Gap:
    """`tiny`: share of entries below the gap that are not zero; `below`: share of all entries below it, zeros too;
    `at`: a magnitude in the gap."""

    tiny: float
    below: float
    at: float


def gap(weight: np.ndarray) -> Gap | None:
    """The gap in the magnitudes of a weight, None if there is none.

        octaves = histogram(log2 |w|) of all that is not zero
        a gap is an octave with 10 times fewer entries than some octave below it and some above

    >>> gap(np.concatenate([np.full(800, 1e-3), np.linspace(0.5, 1, 200)])).below
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
    if depths[deepest - 1] < DEPTH or tiny < SHARE:
        return None
    below = tiny + float(np.mean(weight == 0))
    return Gap(tiny, below, float(2.0 ** (deepest + lowest + 0.5)))
