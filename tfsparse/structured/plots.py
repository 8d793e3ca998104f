"""The picture of a model's channel groups."""

from tfsparse.backend import extras

_SIGNS = {"out": ("s", "makes them"), "through": ("|", "acts on each"), "in": ("o", "reads them")}


def plot(graph):
    """Groups from top to bottom, layers from left to right; frozen groups in grey. `figure.savefig(path)` draws it."""
    layers = list(dict.fromkeys(s.layer.name for s in graph.slices))
    rows, columns = len(graph.groups), len(layers)
    figure = extras.require("matplotlib.figure", "plot").Figure(figsize=(3 + 0.22 * columns, 3 + 0.25 * rows), layout="constrained")
    axes = figure.subplots()
    for y, group in enumerate(graph.groups):
        places = [layers.index(name) for name in group.layers]
        axes.hlines(y, min(places), max(places), color="0.85", zorder=0)
        for role, (sign, _) in _SIGNS.items():
            found = [layers.index(s.layer.name) for s in group.slices if s.role == role]
            axes.plot(found, [y] * len(found), sign, color="0.6" if group.frozen else f"C{y % 7}", linestyle="none")
    for sign, meaning in _SIGNS.values():
        axes.plot([], [], sign, color="black", linestyle="none", label=f"layer {meaning}")
    axes.set_yticks(range(rows), [_label(group) for group in graph.groups])
    axes.set_xticks(range(columns), layers, rotation=90)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_title(f"{graph.model.name}: which channels live and die together (grey: frozen)")
    figure.legend(loc="outside lower center", ncols=len(_SIGNS))
    return figure


def _label(group):
    return f"{group.name} ({len(group)})"
