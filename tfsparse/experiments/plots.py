"""Figures of runs; they know nothing of screens or files: `figure.savefig(path)` draws them."""

import dataclasses
import itertools
import os
import pathlib
import statistics
from collections.abc import Iterable, Sequence

from matplotlib import ticker
from matplotlib.figure import Figure

from tfsparse.backend import files

_MARKERS = "osD^vPX*"
_ACROSS = {"sparsity": "sparsity (fraction of zeros)", "training_complexity": "training complexity (1: dense)"}
_NARROWEST = 0.02  # of an axis: what differs by less shall not look as if it did
_SHARES = {"sparsity": "sparsity", "density": "density", "macs_share": "MACs of a dense pass"}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed; asked_sparsity is None where the method decides."""

    method: str
    model: str
    data: str
    asked_sparsity: float | None
    runs: Sequence[dict]

    def mean(self, key: str) -> float:
        """Return the mean over seeds of `key` of the summaries."""
        return statistics.fmean(run["summary"][key] for run in self.runs)

    def deviation(self, key: str) -> float:
        """Return the sample standard deviation over seeds, 0 for a single run."""
        values = [run["summary"][key] for run in self.runs]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def groups(runs: Iterable[dict]) -> list[Group]:
    """Return the runs grouped over seeds: by data, model, method and sparsity asked, in this order.

    >>> [group.method for group in groups(runs)]
    ['dense', 'one_cycle, magnitude']
    """

    def key(run):
        summary = run["summary"]
        return summary["data"], summary["model"], summary["method"], summary["asked_sparsity"]

    ordered = itertools.groupby(sorted(runs, key=key), key)
    return [Group(method, model, data, asked, list(same)) for (data, model, method, asked), same in ordered]


def training(run: dict) -> Figure:
    """Return accuracy after every epoch of one run, and sparsity or density, and what of a dense pass is left."""
    epochs = [entry["epoch"] for entry in run["epochs"]]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="epoch", ylabel="accuracy", title=_title(run))
    for key, label, color in (("val_accuracy", "validation accuracy", "C0"), ("accuracy", "training accuracy", "C2")):
        axes.plot(epochs, [entry[key] for entry in run["epochs"]], color=color, marker="o", markersize=4, label=label)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    handles = axes.get_legend_handles_labels()[0]
    shares = _shares(run["epochs"])
    if shares:
        other = axes.twinx()
        for (label, values), line in zip(shares.items(), ("C3s--", "C1D:"), strict=False):
            other.plot(epochs, values, line, markersize=4, label=label)
        other.set(ylabel="sparsity (fraction of zeros)" if [*shares] == ["sparsity"] else "fraction", ylim=(0, 1.02))
        handles += other.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def comparison(runs: Iterable[dict]) -> Figure:
    """Return final accuracy against sparsity, and against training complexity where all runs know theirs: a line of
    means over seeds per method, single runs as small dots.

    Dense runs have no sparsity to stand at and are drawn as a level.
    """
    found = groups(runs)
    keys = [key for key in _ACROSS if all(key in run["summary"] for group in found for run in group.runs)]
    figure = Figure(figsize=(2 + 6 * len(keys), 5), layout="constrained")
    figure.suptitle(_subject(found))
    for axes, key in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
        _lines(axes, found, key)
    figure.axes[0].set_ylabel("final validation accuracy")
    ticks = sorted({group.asked_sparsity for group in found if group.asked_sparsity})
    if ticks:
        figure.axes[0].set_xticks(ticks)
    handles = figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(keys), frameon=False)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write `figure` to `path`, whole or not at all; the ending of the name says the format.

    Raises ValueError for a format that matplotlib does not know.
    """
    known = figure.canvas.get_supported_filetypes()
    if pathlib.Path(path).suffix[1:].lower() not in known:
        raise ValueError(f"{path} does not end in the name of a picture format; write {path}.png ({', '.join(known)}).")
    files.write(pathlib.Path(path), lambda temporary: figure.savefig(temporary, dpi=150))


def _shares(entries):
    """What of an epoch is a fraction, by its name in the legend; nothing for a dense run."""
    there = {label: [entry[key] for entry in entries] for key, label in _SHARES.items() if key in entries[-1]}
    return there if there.keys() - {_SHARES["macs_share"]} else {}


def _lines(axes, found, key):
    lines = itertools.groupby(found, lambda group: (group.data, group.model, group.method))
    for number, (_, line) in enumerate(lines):
        _draw(axes, list(line), key, _label(found), color=f"C{number % 10}", marker=_MARKERS[number % len(_MARKERS)])
    low, high = axes.get_xlim()
    spare = max(_NARROWEST - (high - low), 0) / 2
    axes.set_xlim(low - spare, high + spare)
    axes.set_xlabel(_ACROSS[key])
    axes.xaxis.set_major_formatter("{x:.4g}")
    axes.grid(alpha=0.3)


def _draw(axes, line, key, label, color, marker):
    dense = [group for group in line if group.asked_sparsity == 0]
    for group in dense:
        axes.axhline(group.mean("accuracy"), color=color, linestyle="--", label=label(group))
    sparse = [group for group in line if group.asked_sparsity != 0]
    if not sparse:
        return
    for group in sparse:
        singles = [(run["summary"][key], run["summary"]["accuracy"]) for run in group.runs]
        axes.plot(*zip(*singles, strict=True), ".", color=color, alpha=0.4)
    means = [(group.mean(key), group.mean("accuracy")) for group in sparse]
    axes.plot(*zip(*means, strict=True), color=color, marker=marker, label=label(sparse[0]))


def _label(found):
    """Return the namer of lines: the method, and the model and data only where they differ."""
    same = len({(group.model, group.data) for group in found}) == 1
    return lambda group: group.method if same else f"{group.method}: {group.model} on {group.data}"


def _subject(found):
    models, datasets = sorted({group.model for group in found}), sorted({group.data for group in found})
    seeds = sorted({len(group.runs) for group in found})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    means = "one run each" if seeds == [1] else f"mean of {count} runs"
    return f"{', '.join(models)} on {', '.join(datasets)}, {means}"


def _title(run):
    summary = run["summary"]
    asked = f" at sparsity {summary['asked_sparsity']:g}" if summary["asked_sparsity"] else ""
    return f"{summary['model']} on {summary['data']}\n{summary['method']}{asked}, seed {summary['seed']}"
