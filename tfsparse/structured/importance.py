"""Scores of the channels of a group."""

from collections.abc import Callable

import numpy as np
from keras import ops

from tfsparse.pruners.selection import is_prunable


def scores(group, score: str | Callable = "l2") -> np.ndarray:
    """Return one score per channel; channels with higher scores are kept.

    Args:
        group: A `Group` of `Channels`.
        score: "l1" or "l2": norm of the kernels that produce the channel. "gamma": absolute scale of its
            BatchNormalization. Or a function `group -> one number per channel`.

    Returns:
        An array of floats, one per channel of the group.

    Raises:
        ValueError: If `score` is anything else.
    """
    if callable(score):
        return np.asarray(score(group), "float64")
    if score not in _SCORES:
        raise ValueError(
            f"score={score!r}: expected one of {', '.join(map(repr, _SCORES))}, or a function of a tfsparse group that "
            "returns one number per channel."
        )
    return _SCORES[score](group)


def order(group, scores) -> np.ndarray:
    """Return the indices of channels by score, best first.

    The best channel of every layer comes before all others, so that no layer loses all of its channels.
    """
    order = np.argsort(-scores, kind="stable")
    best = indispensable(group, scores)
    return np.array([*best, *(i for i in order.tolist() if i not in best)])


def indispensable(group, scores) -> list[int]:
    """Return the indices of the best channel of every layer, best first."""
    ranks, index = np.argsort(np.argsort(-scores, kind="stable")), _index(group)
    layers = [[index[channel] for channel in axis.ids.tolist()] for axis in group.outputs]
    return sorted({min(channels, key=ranks.__getitem__) for channels in layers}, key=ranks.__getitem__)


def per_channel(group, axis, values) -> np.ndarray:
    """Return for each channel of the group the sum of the values at its indices along an axis of a variable."""
    index, total = _index(group), np.zeros(len(group))
    for channel, value in zip(axis.ids.tolist(), values, strict=True):
        if channel in index:
            total[index[channel]] += value
    return total


def _norm(group, power):
    total = np.zeros(len(group))
    for axis in group.outputs:
        if is_prunable(axis.variable):
            kernel = np.moveaxis(ops.convert_to_numpy(axis.variable), axis.axis, 0).astype("float64")
            total += per_channel(group, axis, (np.abs(kernel) ** power).reshape(len(axis.ids), -1).sum(axis=1))
    return total ** (1 / power)


def _gamma(group):
    gammas = [axis for axis in group.per_channel if axis.variable.name == "gamma"]
    total = sum(per_channel(group, axis, np.abs(ops.convert_to_numpy(axis.variable))) for axis in gammas)
    return total if np.any(total) else _norm(group, 2)


def _index(group):
    return {channel: i for i, channel in enumerate(group.channels.tolist())}


_SCORES = {"l2": lambda group: _norm(group, 2), "l1": lambda group: _norm(group, 1), "gamma": _gamma}
