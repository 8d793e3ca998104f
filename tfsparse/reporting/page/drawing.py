"""Curves over the epochs, as SVG that takes the page's own text colour, in light and in dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.figure import Figure

_INK = "#010203"  # stands for the colour of the text
# seen on white and on black
_LINES = ("#3b82f6", "#e8760c", "#16a06a", "#c2479b", "#8a6fd1", "#a58a00", "#0e9aa7", "#d64545")
_STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.prop_cycle": matplotlib.cycler(color=_LINES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a layer may be called "$"
    "svg.fonttype": "none",
    "svg.hashsalt": "tfsparse",  # the same run is the same page
    "font.size": 9,
}


def curves(epochs: Sequence[int], lines: Mapping[str, Sequence[float]]) -> Figure:
    """Return a small figure with a line for every label; with a legend, unless there is one line or too many to tell
    apart. NaN is a gap. Values that span more than two orders of magnitude stand on a logarithmic axis."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 2.5), layout="constrained")
        axes = figure.subplots()
        for label, values in lines.items():
            axes.plot(epochs, values, label=label, marker="o" if len(epochs) <= 30 else "", markersize=3)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if _spans_orders_of_magnitude(lines.values()):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if 1 < len(lines) <= len(_LINES):
            axes.legend(frameon=False)
    return figure


def svg(figure: Figure, title: str) -> Markup:
    """Return `figure` as an element of a page, without what only a file of its own needs."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace(_INK, "currentColor")
    label = Markup('<svg role="img" aria-label="{}"').format(title)
    return Markup(text.replace("<svg", label, 1))


def _spans_orders_of_magnitude(lines):
    values = [v for line in lines for v in line if math.isfinite(v)]
    return bool(values) and min(values) > 0 and max(values) > 100 * min(values)
