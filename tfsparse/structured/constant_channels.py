"""Which channels have no effect on any output, as the weights prove."""

import math

import numpy as np


def needed(channels, multiple: int = 1) -> np.ndarray:
    """Return a `kept` array that is False for channels without effect.

        a channel is dropped if, for every layer that sums over it, one of these holds:
            the layer has no weights for it, except weights of output channels that are dropped themselves
            the layer gets the same value from it for every input and at every position

    Args:
        channels: The `Channels` of a model.
        multiple: Round the number of kept channels of each layer up to a multiple of this. Every layer keeps at least
            one channel.

    Returns:
        One boolean per channel id.
    """
    must_stay = channels.frozen.copy()
    while True:
        kept = _needed(channels, must_stay)
        missing = [_missing(axis.ids, kept, multiple) for axis in channels.axes if axis.role == "out"]
        if not any(map(len, missing)):
            return kept[channels.roots]
        must_stay[np.concatenate(missing)] = True


def folded(channels, kept) -> dict[int, np.ndarray]:
    """Return `{id of layer: what its dropped inputs always add to its outputs}`."""
    return {
        id(call.layer): call.linear_map.contribution(values, ~kept[call.ids] & call.linear_map.is_foldable(values))
        for call, values in _calls(channels)
    }


def _needed(channels, must_stay):
    kept, calls = np.ones(channels.size, bool), _calls(channels)
    while True:
        is_read, is_used = np.zeros(channels.size, bool), must_stay.copy()
        for call, values in calls:
            connected = call.linear_map.connected[:, kept[call.outputs]].any(axis=1)
            is_read[call.ids] = True
            is_used[call.ids[connected & ~call.linear_map.is_foldable(values)]] = True
        before, kept = kept, is_used | ~is_read
        if (kept == before).all():
            return kept


def _calls(channels):
    """Return one call of each layer, with the input values that are the same in all its calls."""
    by_layer = {}
    for call in channels.linear_calls:
        by_layer.setdefault(id(call.layer), []).append(call)
    return [(calls[0], _common([call.values for call in calls])) for calls in by_layer.values()]


def _common(values):
    return np.where(np.all([v == values[0] for v in values], axis=0), values[0], np.nan)


def _missing(ids, kept, multiple):
    """Return dropped channels of a layer that must stay, so that it keeps one channel and a multiple."""
    unique = np.unique(ids)
    num_kept = int(np.count_nonzero(kept[unique]))
    target = min(len(unique), max(math.ceil(num_kept / multiple), 1) * multiple)
    return unique[~kept[unique]][: target - num_kept]
