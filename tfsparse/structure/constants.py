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
    uses = {id(u.layer): u for u in graph.uses}
    constants = {u: _common(graph, u) for u in uses}
    return {
        u: use.flow.added(constants[u], ~alive[use.ids] & use.flow.foldable(constants[u])) for u, use in uses.items()
    }


def _needed(graph, kept):
    alive = np.ones(graph.size, bool)
    while True:
        read, in_use = np.zeros(graph.size, bool), kept.copy()
        for use in graph.uses:
            values = _common(graph, id(use.layer))
            idle = use.flow.foldable(values) | ~use.flow.touches[:, alive[use.outputs]].any(axis=1)
            read[use.ids] = True
            in_use[use.ids[~idle]] = True
        left = in_use | ~read
        if (left == alive).all():
            return alive
        alive = left


def _common(graph, layer_id):
    """What a layer constantly gets in all its calls."""
    calls = [u.values for u in graph.uses if id(u.layer) == layer_id]
    return np.where(np.all([c == calls[0] for c in calls], axis=0), calls[0], np.nan)


def _revived(ids, alive, multiple):
    """Dropped channels of a layer that have to stay for the sake of its number."""
    unique = np.unique(ids)
    count = int(np.count_nonzero(alive[unique]))
    wanted = min(len(unique), max(math.ceil(count / multiple), 1) * multiple)
    return unique[~alive[unique]][: wanted - count]
