"""How sparse can this model be? Accuracy against sparsity, with bytes, multiply-adds and milliseconds."""

import dataclasses
import math
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from rich.progress import track

from tfsparse.backend.extras import require
from tfsparse.backend.tables import Column, Printed, count, make_table
from tfsparse.doctor import measurement, sources, targets
from tfsparse.doctor.measurement import NotMeasurable
from tfsparse.doctor.target import Target
from tfsparse.doctor.timing import Summary
from tfsparse.export.saved_model import export
from tfsparse.export.tflite import NotConvertible
from tfsparse.optimizers import compiled_model, evaluation, nested
from tfsparse.optimizers.one_shot import prune
from tfsparse.optimizers.recalibration import batch_normalizations, recalibrate
from tfsparse.pruners import selection
from tfsparse.structured import multiply_adds

_95_PERCENT = 1.959964  # standard deviations
_NESTED, _CUTS = "every level was trained, by one training", "no level was trained: these are cuts of one network"


@dataclasses.dataclass(frozen=True)
class Row:
    """A model at one sparsity.

    Args:
        sparsity: The sparsity that was asked for.
        value: The metric.
        low: Lower end of its interval; None if it has none.
        high: Upper end of its interval; None if it has none.
        macs: Multiply-adds by weights that are not zero, for one example; None if unknown.
        saved_model_bytes: Bytes of the directory that `tfsparse.export` writes; None if not measured.
        bytes: Bytes of the form for the target; None if not measured.
        milliseconds: Of one example on the target; None if not measured.
    """

    sparsity: float
    value: float
    low: float | None
    high: float | None
    macs: int | None
    saved_model_bytes: int | None
    bytes: int | None
    milliseconds: Summary | None


@dataclasses.dataclass(frozen=True, repr=False)
class Frontier(Printed):
    """What sparsities of a model cost and gain. `print` shows it as a table.

    Args:
        model: Name of the model.
        metric: Name of the metric.
        num_examples: Number of examples that it was measured on.
        is_nested: Whether the levels were trained, with the schedule `tfsparse.Nested`.
        target: Name of the target of bytes and milliseconds.
        rows: One `Row` for each sparsity, ascending; the first is 0.
        why_not_measured: Reason why bytes or milliseconds were not measured; None if they were.
        num_processes: Processes in which milliseconds were measured; 0 if they were not. Files of TFLite are measured
            in three, and the interval is that of all their rounds.

    Examples:
        >>> result = tfsparse.frontier(model, (x_test, y_test)); print(result); result.plot()
        >>> small = tfsparse.at(model, result.knee(drop=0.005))
    """

    width = 130
    model: str
    metric: str
    num_examples: int
    is_nested: bool
    target: str
    rows: tuple[Row, ...]
    why_not_measured: str | None
    num_processes: int = 1

    def knee(self, drop: float) -> float:
        """Return the highest sparsity that was measured at which the metric is at most `drop` worse than at sparsity 0.

        Args:
            drop: In units of the metric, >= 0: 0.005 is half a point of accuracy.

        Raises:
            ValueError: If `drop` is negative.
        """
        if isinstance(drop, bool) or not isinstance(drop, (int, float)) or not drop >= 0:
            raise ValueError(
                f"knee got drop={drop!r}: expected a number >= 0 in units of {self.metric}, such as drop=0.005."
            )
        sign = -1 if self.metric == "loss" else 1
        return max(row.sparsity for row in self.rows if sign * (self.rows[0].value - row.value) <= drop + 1e-9)

    def table(self):
        """Return a `rich.table.Table`."""
        levels = _NESTED if self.is_nested else _CUTS
        reason = f"\nnot measured: {self.why_not_measured}" if self.why_not_measured else ""
        columns = [
            Column("sparsity", text="{:g}".format, justify="right"),
            Column(self.metric, "value", "{:.4f}".format, "right"),
            Column("95 % interval", _interval, justify="right"),
            Column("multiply-adds", "macs", count, "right"),
            Column("SavedModel, bytes", "saved_model_bytes", count, "right"),
            Column(f"{self.target}, bytes", "bytes", count, "right"),
            Column("ms (least to most)", "milliseconds", _milliseconds, "right"),
        ]
        title = f"{self.model}: {self.metric} on {self.num_examples:,} examples against sparsity; {levels}"
        caption = "multiply-adds: of one example, by weights that are not zero"
        if self.num_processes:
            caption += f"; ms: of one example on this host, all rounds of {self.num_processes} processes"
        return make_table(columns, self.rows, title=title, caption=caption + reason)

    def plot(self, drop: float | None = None):
        """Return a matplotlib figure of the metric against the sparsity.

        Args:
            drop: If given, the knee at this drop is marked. Default: None.
        """
        figure = require("matplotlib.figure", "plot").Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        kept = [1 - row.sparsity for row in self.rows]
        axes.plot(kept, [row.value for row in self.rows], marker="o")
        if self.rows[0].low is not None:
            axes.fill_between(kept, [row.low for row in self.rows], [row.high for row in self.rows], alpha=0.2)
        if drop is not None:
            knee = self.knee(drop)
            axes.axvline(1 - knee, linestyle="--", color="gray", label=f"{knee:g}: at most {drop:g} worse")
            axes.legend()
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xticks(kept, [f"{row.sparsity:g}" for row in self.rows])
        axes.minorticks_off()
        axes.set(xlabel="sparsity", ylabel=self.metric, title=self.model)
        axes.grid(alpha=0.3)
        return figure


def frontier(
    model: keras.Model,
    data,
    sparsities: Sequence[float] | None = None,
    *,
    pruner="magnitude",
    metric: str | None = None,
    target: str | Target = "tflite-cpu",
    measure: bool = True,
    calibration=None,
    verbose: bool = True,
) -> Frontier:
    """Measure a model at several sparsities: its metric, bytes, multiply-adds and milliseconds.

        for each sparsity:
            a model trained with tfsparse.Nested:   tfsparse.at(model, sparsity)
            any other:                              a copy, cut by the pruner, not trained afterwards
            recalibrate BatchNormalization;  evaluate;  write its forms
        run all forms on one example in turns, files of TFLite in three processes

    The model does not change. The sparsity 0 is always measured, since drops are counted from it. The interval is
    Wilson's: in 95 of 100 test sets of this size the accuracy on unlimited data is inside. It compares no two
    sparsities of one network, which err on much the same examples.

    Args:
        model: A trained and compiled model.
        data: Arrays `(x, y)`, or a dataset that can be read many times. For the choice of a sparsity take examples that
            neither training nor the final test uses.
        sparsities: In [0, 1); those of a nested model are at most its highest level. Default: None, the levels of a
            nested model, else (0.5, 0.7, 0.8, 0.9, 0.95, 0.98).
        pruner: What cuts a model that is not nested: a pruner that needs no gradients, its name or its config. Default:
            "magnitude".
        metric: Name of a compiled metric, of which more is better, or "loss". Default: None, "accuracy" if there is
            such a metric, else "loss".
        target: What bytes and milliseconds are those of, as in `tfsparse.doctor`. Default: "tflite-cpu".
        measure: Whether to measure bytes and milliseconds. Default: True.
        calibration: Inputs of training for the statistics of BatchNormalization, as in `tfsparse.recalibrate`: a model
            that was trained with augmented examples needs such ones. Default: None, `data`.
        verbose: Whether to show a progress bar. Default: True.

    Returns:
        A `Frontier`: a table, a plot, and the sparsest level within a drop.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model is not compiled, if there is no data or no such metric, or if a sparsity or the target
            is unknown.

    Source:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927), for the interval.

    Examples:
        >>> result = tfsparse.frontier(model, (x_test, y_test))
        >>> print(result); result.knee(drop=0.005)
    """
    compiled_model.check_compiled(model)
    is_nested, pruner, target = nested.is_nested(model), evaluation.check_pruner(pruner), targets.get(target)
    levels, num_examples = _check_levels(sparsities, model, is_nested), _num_examples(data)
    inputs = data if calibration is None else calibration
    bar = track(levels, "cutting", disable=not verbose)
    models = [nested.at(model, s, inputs) if is_nested else _cut(model, s, pruner, inputs) for s in bar]
    results = [evaluation.evaluate(plain, data) for plain in track(models, "evaluating", disable=not verbose)]
    chosen = evaluation.check_metric(metric, results[0])
    not_asked = [(None, None, None)] * len(models), 0, "not asked for"
    costs, num_processes, reason = _costs(models, target) if measure else not_asked
    rows = []
    for level, plain, result, cost in zip(levels, models, results, costs, strict=True):
        value = float(result[chosen])
        rows.append(Row(level, value, *_wilson(chosen, value, num_examples), _macs(plain), *cost))
    return Frontier(model.name, chosen, num_examples, is_nested, target.name, tuple(rows), reason, num_processes)


def _cut(model, sparsity, pruner, inputs):
    """Return a copy that is cut, of a model that is not nested."""
    plain = nested.plain_copy(model)
    if sparsity:
        prune(plain, sparsity, pruner)
        if batch_normalizations(plain):
            recalibrate(plain, inputs)
    return plain


# ---- bytes and milliseconds ------------------------------------------------------------------------------------------


def _costs(models, target):
    """Return bytes of the SavedModel and of the target's form and milliseconds of each, how many processes measured
    these, and why something lacks.
    """
    with tempfile.TemporaryDirectory() as folder:
        folders = [pathlib.Path(folder) / str(i) for i in range(len(models))]
        saved = [_saved_model_bytes(model, path) for model, path in zip(models, folders, strict=True)]
        try:
            forms = [_form(model, target, path) for model, path in zip(models, folders, strict=True)]
            times, num_processes = measurement.milliseconds(forms)
        except (NotMeasurable, NotConvertible) as error:
            return [(size, None, None) for size in saved], 0, str(error)
        return [(size, f.bytes, ms) for size, f, ms in zip(saved, forms, times, strict=True)], num_processes, None


def _saved_model_bytes(model, folder):
    directory = export(model, folder / "out")
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _form(model, target, folder):
    """Return the sparse form of a model; the dense one of a model without zeros."""
    folder = folder / "form"
    folder.mkdir()
    return target.forms(sources.KerasSource(model), folder)[-1]


def _macs(model):
    """Return the multiply-adds by weights that are not zero for one example; None if unknown."""
    uses = multiply_adds.uses_per_entry(model)
    kernels = [v for v in model.weights if selection.is_prunable(v)]
    numbers = [
        multiply_adds.product([uses.get(id(v)), int(np.count_nonzero(ops.convert_to_numpy(v)))]) for v in kernels
    ]
    return multiply_adds.total(numbers)


# ---- the interval ----------------------------------------------------------------------------------------------------


def _wilson(metric, value, num_examples):
    """Return the interval of a share of the examples; None and None for another metric."""
    if "accuracy" not in metric or not 0 <= value <= 1:
        return None, None
    z = _95_PERCENT
    middle = (value + z * z / (2 * num_examples)) / (1 + z * z / num_examples)
    half = (
        z * math.sqrt(value * (1 - value) / num_examples + (z / (2 * num_examples)) ** 2) / (1 + z * z / num_examples)
    )
    return middle - half, middle + half


def _interval(row):
    return "-" if row.low is None else f"{row.low:.4f} to {row.high:.4f}"


def _milliseconds(summary):
    return "-" if summary is None else f"{summary.median:.3g} ({summary.min:.3g} to {summary.max:.3g})"


# ---- what was asked for ----------------------------------------------------------------------------------------------


def _num_examples(data):
    """Return how many examples arrays or the batches of a dataset have."""
    if data is None:
        raise ValueError(
            "frontier got no data: expected arrays (x, y) or a dataset, frontier(model, (x_test, y_test))."
        )
    batches = [data] if isinstance(data, tuple) else data
    number = sum(len(keras.tree.flatten(batch)[0]) for batch in batches)
    if not number:
        raise ValueError("frontier got data without an example: expected arrays (x, y) or a dataset.")
    return number


def _check_levels(sparsities, model, is_nested):
    """Return the sparsities with 0, ascending."""
    if sparsities is None:
        optimizer = compiled_model.sparse_optimizer(model)
        sparsities = optimizer.schedule.levels if is_nested else (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
    return sorted({0.0, *(selection.check_sparsity(s, "sparsities") for s in sparsities)})
