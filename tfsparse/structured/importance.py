"""What a channel of a group is worth."""

from collections.abc import Callable

import numpy as np
from keras import ops

from tfsparse.pruners.selection import is_prunable


def scores(group, score: str | Callable = "l2") -> np.ndarray:
    """One number per channel, higher lives: "l1" or "l2" norm of the weights that make it, "gamma": its
    BatchNormalization scales, or a function of the group.

    Raises: ValueError for anything else.
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
    """Channels by their scores, best first; but the best one of every layer before all, for none may be emptied."""
    order = np.argsort(-scores, kind="stable")
    ranks, places = np.argsort(order), _places(group)
    members = [[places[channel] for channel in s.ids.tolist()] for s in group.outputs]
    first = dict.fromkeys(min(member, key=ranks.__getitem__) for member in members)
    return np.array([*sorted(first, key=ranks.__getitem__), *(i for i in order.tolist() if i not in first)])


def _norm(group, power):
    total = np.zeros(len(group))
    for s in group.outputs:
        if is_prunable(s.variable):
            values = np.abs(np.moveaxis(ops.convert_to_numpy(s.variable), s.axis, 0).astype("float64")) ** power
            total += _per_channel(group, s, values.reshape(len(s.ids), -1).sum(axis=1))
    return total ** (1 / power)


def _gamma(group):
    total = np.zeros(len(group))
    for s in group.others:
        if s.variable.name == "gamma":
            total += _per_channel(group, s, np.abs(ops.convert_to_numpy(s.variable)))
    return total if total.any() else _norm(group, 2)


def _per_channel(group, piece, values):
    """Sums over the entries of an axis that are one channel."""
    places, result = _places(group), np.zeros(len(group))
    for channel, value in zip(piece.ids.tolist(), values, strict=True):
        if channel in places:
            result[places[channel]] += value
    return result


def _places(group):
    return {channel: i for i, channel in enumerate(group.channels.tolist())}


_SCORES = {"l2": lambda group: _norm(group, 2), "l1": lambda group: _norm(group, 1), "gamma": _gamma}
