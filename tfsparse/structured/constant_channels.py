"""Which channels the weights prove to be without effect."""

import math

import numpy as np


def needed(graph, multiple: int = 1) -> np.ndarray:
    """`alive`: False for channels that no layer reads, or whose readers can be given a constant instead.

        a channel is dropped if every layer that sums over it either has no weights for it (but such as make channels
        that are dropped themselves), or gets the same from it always and everywhere

    Every layer keeps one channel at least; kept numbers are rounded up to `multiple`.
    """
    kept = graph.frozen.copy()
    while True:
        alive = _needed(graph, kept)
        more = [_revived(s.ids, alive, multiple) for s in graph.slices if s.role == "out"]
        if not any(map(len, more)):
            return alive[graph.roots]
        kept[np.concatenate(more)] = True


def folded(graph, alive) -> dict[int, np.ndarray]:
    """`{id of layer: what the dropped inputs have always added to its outputs}`."""
    found = {}
    for use, values in _common(graph):
        found[id(use.layer)] = use.flow.added(values, ~alive[use.ids] & use.flow.foldable(values))
    return found


def _needed(graph, kept):
    alive, uses = np.ones(graph.size, bool), _common(graph)
    while True:
        read, in_use = np.zeros(graph.size, bool), kept.copy()
        for use, values in uses:
            idle = use.flow.foldable(values) | ~use.flow.touches[:, alive[use.outputs]].any(axis=1)
            read[use.ids] = True
            in_use[use.ids[~idle]] = True
        left = in_use | ~read
        if (left == alive).all():
            return alive
        alive = left


def _common(graph):
    """One use of each layer, and what the layer constantly gets in all its calls."""
    calls = {}
    for use in graph.uses:
        calls.setdefault(id(use.layer), []).append(use)
    return [(same[0], _agreed([use.values for use in same])) for same in calls.values()]


def _agreed(values):
    return np.where(np.all([v == values[0] for v in values], axis=0), values[0], np.nan)


def _revived(ids, alive, multiple):
    """Dropped channels of a layer that have to stay for the sake of its number."""
    unique = np.unique(ids)
    count = int(np.count_nonzero(alive[unique]))
    wanted = min(len(unique), max(math.ceil(count / multiple), 1) * multiple)
    return unique[~alive[unique]][: wanted - count]
