"""Curves over the epochs, as SVG in the text colour of the page, for light and dark pages."""

import io
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.figure import Figure

_INK = "#010203"  # is replaced by the text colour of the page
_LINES = matplotlib.color_sequences["tab10"][:8]  # as in the pictures of the documentation and of the notebooks
_STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.prop_cycle": matplotlib.cycler(color=_LINES, linestyle=["-", "--", "-.", ":"] * 2),  # tell apart in grey, too
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # the name of a layer may contain "$"
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfsparse",  # the same run gives the same page
    "font.size": 9,
}


def curves(epochs: Sequence[int], lines: Mapping[str, Sequence[float]]) -> Figure:
    """Return a small figure with one line per label.

    It has a legend, unless there is only one line or there are too many to tell them apart. If the values span more
    than two orders of magnitude, their axis is logarithmic.

    Args:
        epochs: The numbers of the epochs.
        lines: `{label: one value per epoch}`. NaN gives a gap.

    Returns:
        A matplotlib Figure.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 2.5), layout="constrained")
        axes = figure.subplots()
        for label, values in lines.items():
            axes.plot(epochs, values, label=label, marker="o" if len(epochs) <= 30 else "", markersize=3)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
        if _spans_orders_of_magnitude(lines.values()):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if 1 < len(lines) <= len(_LINES):
            axes.legend(frameon=False)
    return figure


def frontier(sparsities: Sequence[float], values: Sequence[float], metric: str) -> Figure:
    """Return a small figure of a metric against the sparsity. The axis is that of the weights that are kept.

    Args:
        sparsities: Ascending, in [0, 1).
        values: The metric at each of them.
        metric: Its name.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 2.5), layout="constrained")
        axes = figure.subplots()
        axes.plot([1 - sparsity for sparsity in sparsities], values, marker="o", markersize=3)
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xticks([1 - sparsity for sparsity in sparsities], [f"{sparsity:g}" for sparsity in sparsities])
        axes.minorticks_off()
        axes.set(xlabel="sparsity", ylabel=metric)
        axes.grid()
    return figure


def svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG element of a page, without the parts that only a separate file needs.

    Args:
        figure: A matplotlib Figure.
        title: What a screen reader says in place of the picture.

    Returns:
        The markup.
    """
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
