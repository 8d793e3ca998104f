"""Figures of one run and of several runs."""

import dataclasses
import itertools
import math
import os
import pathlib
import statistics
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib import ticker
from matplotlib.figure import Figure

from tfsparse.backend import files
from tfsparse.backend.tables import printable

_MARKERS = "osD^vPX*"
_X_LABELS = {"sparsity": "sparsity (fraction of zeros)", "training_complexity": "training complexity (1: dense)"}
_SMALLEST_RANGE = 0.02  # of an x-axis: smaller differences shall not look large
_PLAIN_TEXT = matplotlib.rc_context({"text.parse_math": False})  # a name may contain "$"
_FRACTIONS = {"sparsity": "sparsity", "density": "density", "macs_share": "MACs of a dense pass"}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        method: The label of the method.
        model: The model, with its options.
        data: The data set.
        target_sparsity: The target, a fraction in [0, 1); None if the method decides how much is pruned.
        runs: The records.
    """

    method: str
    model: str
    data: str
    target_sparsity: float | None
    runs: Sequence[dict]

    @property
    def setting(self) -> tuple:
        """What methods must have in common to be compared: data, model and target sparsity."""
        return self.data, self.model, self.target_sparsity

    def mean(self, key: str) -> float:
        """Return the mean over seeds of a key of the summaries."""
        return statistics.fmean(run["summary"][key] for run in self.runs)

    def deviation(self, key: str) -> float:
        """Return the sample standard deviation over seeds; 0 for a single run."""
        values = [run["summary"][key] for run in self.runs]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def by_seed(self, key: str) -> dict[int, float]:
        """Return `{seed: figure}` of a key of the summaries; the mean of runs that have the same seed."""
        figures: dict[int, list[float]] = {}
        for run in self.runs:
            figures.setdefault(run["summary"]["seed"], []).append(run["summary"][key])
        return {seed: statistics.fmean(values) for seed, values in figures.items()}


def groups(runs: Iterable[dict]) -> list[Group]:
    """Return the runs in groups over seeds, sorted by data, model, method and target sparsity.

    Examples:
        >>> [group.method for group in groups(runs)]
        ['dense', 'one_cycle, magnitude']
    """

    def key(run):
        summary = run["summary"]
        has_target = summary["asked_sparsity"] is not None
        return summary["data"], summary["model"], summary["method"], has_target, summary["asked_sparsity"] or 0.0

    ordered = itertools.groupby(sorted(runs, key=key), key)
    return [
        Group(method, model, data, target if has_target else None, list(same))
        for (data, model, method, has_target, target), same in ordered
    ]


def best_of(all_groups: Iterable[Group]) -> dict[tuple, Group]:
    """Return the group with the highest mean accuracy for each data set, model and target sparsity.

    Returns:
        `{(data, model, target sparsity): group}`.
    """
    ordered = sorted(all_groups, key=lambda group: group.mean("accuracy"))
    return {group.setting: group for group in ordered}


@_PLAIN_TEXT
def training(run: dict) -> Figure:
    """Return a figure of one run: accuracy, sparsity or density, and multiply-adds after every epoch."""
    epochs = [entry["epoch"] for entry in run["epochs"]]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="epoch", ylabel="accuracy", title=_title(run))
    for key, label, color in (("val_accuracy", "validation accuracy", "C0"), ("accuracy", "training accuracy", "C2")):
        axes.plot(epochs, [entry[key] for entry in run["epochs"]], color=color, marker="o", markersize=4, label=label)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    handles = axes.get_legend_handles_labels()[0]
    fractions = _fractions(run["epochs"])
    if fractions:
        other = axes.twinx()
        for (label, values), line in zip(fractions.items(), ("C3s--", "C1D:"), strict=False):
            other.plot(epochs, values, line, markersize=4, label=label)
        other.set(ylabel="sparsity (fraction of zeros)" if [*fractions] == ["sparsity"] else "fraction", ylim=(0, 1.02))
        handles += other.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


@_PLAIN_TEXT
def comparison(runs: Iterable[dict]) -> Figure:
    """Return a figure of final accuracy against sparsity, and against training complexity if all runs have it.

    Each method is a line through the means over seeds. Small dots are single runs. Dense runs are a horizontal line.
    """
    all_groups = groups(runs)
    keys = [key for key in _X_LABELS if all(key in run["summary"] for group in all_groups for run in group.runs)]
    figure = Figure(figsize=(2 + 6 * len(keys), 5), layout="constrained")
    figure.suptitle(_subject(all_groups))
    for axes, key in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
        _lines(axes, all_groups, key)
    figure.axes[0].set_ylabel("final validation accuracy")
    ticks = sorted({group.target_sparsity for group in all_groups if group.target_sparsity})
    if ticks:
        figure.axes[0].set_xticks(ticks)
    handles = figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(keys) + 1, frameon=False)
    return figure


def save(figure: Figure, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a figure to a file, in the format of its suffix.

    Args:
        figure: The figure.
        path: The file. A figure that tfsparse wrote as PNG, PDF or SVG is replaced.
        overwrite: Whether to replace any other file, too. Default: False.

    Raises:
        ValueError: If matplotlib does not know the format, or if the file must not be replaced.
    """
    check_target(path, overwrite)
    key = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}.get(pathlib.Path(path).suffix.lower())
    metadata = {key: files.MARK} if key else None
    files.write(path, lambda new: figure.savefig(new, dpi=150, metadata=metadata), overwrite)


def check_target(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuse a path to which `save` would not write, before any work is done.

    Raises:
        ValueError: As `save` does.
    """
    formats = Figure().canvas.get_supported_filetypes()
    if pathlib.Path(path).suffix[1:].lower() not in formats:
        raise ValueError(f"{path} does not end in an image format; write {path}.png ({', '.join(formats)}).")
    files.check_target(pathlib.Path(path), overwrite)


def _fractions(entries):
    """Return `{label: values}` of the fractions in the entries of the epochs; empty for a dense run."""
    keys = [key for key in _FRACTIONS if key in entries[-1]]
    present = {_FRACTIONS[key]: [entry.get(key, math.nan) for entry in entries] for key in keys}
    return present if present.keys() - {_FRACTIONS["macs_share"]} else {}


def _lines(axes, all_groups, key):
    lines = itertools.groupby(all_groups, lambda group: (*_method(group), group.target_sparsity is None))
    for number, (_, line) in enumerate(lines):
        _draw(
            axes, list(line), key, _label(all_groups), color=f"C{number % 10}", marker=_MARKERS[number % len(_MARKERS)]
        )
    low, high = axes.get_xlim()
    margin = max(_SMALLEST_RANGE - (high - low), 0) / 2
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel(_X_LABELS[key])
    axes.xaxis.set_major_formatter("{x:.4g}")
    axes.grid(alpha=0.3)


def _draw(axes, line, key, label, color, marker):
    dense = [group for group in line if group.target_sparsity == 0]
    for group in dense:
        axes.axhline(group.mean("accuracy"), color=color, linestyle="--", label=label(group))
    sparse = [group for group in line if group.target_sparsity != 0]
    if not sparse:
        return
    for group in sparse:
        singles = [(run["summary"][key], run["summary"]["accuracy"]) for run in group.runs]
        axes.plot(*zip(*singles, strict=True), ".", color=color, alpha=0.4)
    means = [(group.mean(key), group.mean("accuracy")) for group in sparse]
    axes.plot(*zip(*means, strict=True), color=color, marker=marker, label=label(sparse[0]))


def _label(all_groups):
    """Return the function that labels a line: the method, with what tells it from other lines."""
    same = len({(group.model, group.data) for group in all_groups}) == 1
    with_target = {_method(group) for group in all_groups if group.target_sparsity is not None}

    def label(group):
        is_other = group.target_sparsity is None and _method(group) in with_target
        name = group.method + ", no target" * is_other
        return printable(name if same else f"{name}: {group.model} on {group.data}")

    return label


def _method(group):
    return group.data, group.model, group.method


def _subject(all_groups):
    models, datasets = sorted({group.model for group in all_groups}), sorted({group.data for group in all_groups})
    seeds = sorted({len(group.runs) for group in all_groups})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    means = "one run each" if seeds == [1] else f"mean of {count} runs"
    return printable(f"{', '.join(models)} on {', '.join(datasets)}, {means}")


def _title(run):
    summary = run["summary"]
    target = f" at sparsity {summary['asked_sparsity']:g}" if summary["asked_sparsity"] else ""
    return printable(f"{summary['model']} on {summary['data']}\n{summary['method']}{target}, seed {summary['seed']}")
