"""The picture of a model's channel groups."""

from tfsparse.backend.extras import require

_MARKERS = {"out": ("s", "makes them"), "per_channel": ("|", "acts on each"), "in": ("o", "reads them")}


def plot(channels):
    """Draw groups from top to bottom and layers from left to right; frozen groups are grey."""
    layers = list(dict.fromkeys(axis.layer.name for axis in channels.axes))
    rows, columns = len(channels.groups), len(layers)
    figure = require("matplotlib.figure", "plot").Figure(
        figsize=(3 + 0.22 * columns, 3 + 0.25 * rows), layout="constrained"
    )
    plane = figure.subplots()
    for y, group in enumerate(channels.groups):
        columns_of_group = [layers.index(name) for name in group.layers]
        plane.hlines(y, min(columns_of_group), max(columns_of_group), color="0.85", zorder=0)
        for role, (marker, _) in _MARKERS.items():
            x = [layers.index(axis.layer.name) for axis in group.axes if axis.role == role]
            plane.plot(x, [y] * len(x), marker, color="0.6" if group.frozen else f"C{y % 7}", linestyle="none")
    for marker, meaning in _MARKERS.values():
        plane.plot([], [], marker, color="black", linestyle="none", label=f"layer {meaning}")
    plane.set_yticks(range(rows), [f"{group.name} ({len(group)})" for group in channels.groups])
    plane.set_xticks(range(columns), layers, rotation=90)
    plane.set_ylim(rows - 0.4, -0.6)
    plane.set_title(f"{channels.model.name}: coupled channels (grey: frozen)")
    figure.legend(loc="outside lower center", ncols=len(_MARKERS))
    return figure
