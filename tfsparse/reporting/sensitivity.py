"""What it costs to prune one weight, or one group of channels, at a time: which can be pruned far, and which cannot."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np
from keras import ops
from rich.progress import track

from tfsparse.backend import variables
from tfsparse.backend.extras import require
from tfsparse.backend.tables import Column, Printed, make_table
from tfsparse.optimizers import evaluation
from tfsparse.optimizers.compiled_model import check_keras3
from tfsparse.optimizers.recalibration import batch_normalizations, recalibrate
from tfsparse.pruners import selection
from tfsparse.structured.channels import Channels
from tfsparse.structured.shrinking import mask_channels


@dataclasses.dataclass(frozen=True, repr=False)
class Sensitivity(Printed):
    """The metric of a model while one weight is pruned and all others are dense. `print` shows it as a table.

    Args:
        model: Name of the model.
        metric: Name of the metric.
        dense: Its value when nothing is pruned.
        weights: Paths of the weights.
        sizes: Number of entries of each weight.
        sparsities: The levels, ascending, in (0, 1).
        values: One row for each weight, one column for each level.
        variables: The weights.

    Examples:
        >>> result = tfsparse.sensitivity(model, (x_val, y_val))
        >>> model.fit(x, y, callbacks=[tfsparse.Prune(sparsities=result.targets(sparsity=0.95))])
    """

    model: str
    metric: str
    dense: float
    weights: tuple[str, ...]
    sizes: tuple[int, ...]
    sparsities: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    variables: tuple = dataclasses.field(repr=False, compare=False)
    _item: ClassVar[str] = "weight"

    @property
    def drops(self) -> np.ndarray:
        """How much worse the metric is than the dense one: >= 0 and never falling with the level, (weights, levels)."""
        sign = 1 if self.metric == "loss" else -1
        worse = sign * (np.array(self.values) - self.dense)
        return np.maximum.accumulate(np.maximum(worse, 0), axis=1)

    def targets(self, drop: float | None = None, *, sparsity: float | None = None) -> list[tuple]:
        """Return a target for each weight, as `tfsparse.Prune(sparsities=...)` takes them.

            target of a weight = the largest sparsity at which the metric drops by at most `drop`

        Between two levels the drop is taken as a straight line. No target is above the highest level.

        Args:
            drop: Largest drop that one weight may cost, in units of the metric, >= 0: 0.005 is half a point of
                accuracy. Default: None.
            sparsity: Instead of a drop, the sparsity of all weights together, in (0, the highest level]. The same drop
                for each weight then follows from it. Default: None.

        Returns:
            Pairs of a variable and its sparsity.

        Raises:
            ValueError: If not exactly one of the two is given, or if it cannot be met.
        """
        if (drop is None) == (sparsity is None) or (drop is not None and not drop >= 0):
            raise ValueError(
                f"targets got drop={drop!r} and sparsity={sparsity!r}: expected one of them, for example "
                "targets(drop=0.005) or targets(sparsity=0.9)."
            )
        if sparsity is not None and not 0 < sparsity <= self.sparsities[-1]:
            raise ValueError(
                f"targets(sparsity={sparsity!r}): expected more than 0, and at most the highest level that was "
                f"measured, {self.sparsities[-1]:g}."
            )
        chosen = self._sparsities_at(drop) if sparsity is None else self._sparsities_of_all(sparsity)
        return [(v, float(s)) for v, s in zip(self.variables, chosen, strict=True)]

    def _sparsities_at(self, drop):
        levels = (0.0, *self.sparsities)
        return np.array([_largest(levels, (0.0, *drops), drop) for drops in self.drops])

    def _sparsities_of_all(self, sparsity):
        """Find the drop by bisection. At the drop at which several targets jump, all of them jump by the same part."""
        fractions = np.array(self.sizes) / sum(self.sizes)
        low, high = 0.0, float(self.drops.max())
        if fractions @ self._sparsities_at(low) >= sparsity:
            return self._sparsities_at(low) * (sparsity / (fractions @ self._sparsities_at(low)))
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if fractions @ self._sparsities_at(middle) < sparsity else (low, middle)
        below, above = self._sparsities_at(low), self._sparsities_at(high)
        part = (sparsity - fractions @ below) / max(fractions @ (above - below), 1e-12)
        return below + np.clip(part, 0, 1) * (above - below)

    def as_dict(self) -> dict:
        """Return all fields but the variables as a dict that JSON can store."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "variables"}

    def table(self):
        """Return a `rich.table.Table`."""
        title = f"{self.model}: {self.metric} with one {self._item} pruned (dense: {self.dense:.4f})"
        rows = list(zip(self.weights, self.values, strict=True))
        columns = [
            Column(f"{level:g}", lambda row, i=i: row[1][i], "{:.4f}".format, "right")
            for i, level in enumerate(self.sparsities)
        ]
        return make_table([Column(self._item, lambda row: row[0]), *columns], rows, title=title)

    def plot(self):
        """Return a matplotlib figure: a heat map of the drops, a line for each weight and a column for each level."""
        figure = require("matplotlib.figure", "plot").Figure(
            figsize=(3 + 0.6 * len(self.sparsities), 1.5 + 0.25 * len(self.weights)), layout="constrained"
        )
        plane = figure.subplots()
        image = plane.imshow(self.drops, cmap="viridis_r", aspect="auto")
        plane.set_xticks(range(len(self.sparsities)), [f"{level:g}" for level in self.sparsities])
        plane.set_yticks(range(len(self.weights)), self.weights)
        plane.set_xlabel(f"sparsity of this {self._item} alone")
        plane.set_title(self.model)
        figure.colorbar(image, label=f"drop of {self.metric}" if self.metric != "loss" else "rise of the loss")
        return figure


class ChannelSensitivity(Sensitivity):
    """The metric of a model while channels of one group are zero and all others are there.

    `weights` are the names of the groups, `sizes` their numbers of channels, and a sparsity is the fraction of the
    channels that are zero.

    Examples:
        >>> result = tfsparse.channel_sensitivity(model, (x_val, y_val))
        >>> small = tfsparse.shrink(model, keep=result.keep(drop=0.01))
    """

    _item: ClassVar[str] = "group of channels"

    def keep(self, drop: float | None = None, *, sparsity: float | None = None) -> dict[str, int]:
        """Return how many channels each group keeps, as `tfsparse.shrink(model, keep=...)` takes it.

        Args:
            drop: As in `targets`.
            sparsity: As in `targets`: the fraction of the channels of all groups together to drop.

        Returns:
            `{name of a group: channels to keep}`, at least 1 of each.
        """
        targets = [target for _, target in self.targets(drop, sparsity=sparsity)]
        return {g: _num_kept(n, s) for g, n, s in zip(self.weights, self.sizes, targets, strict=True)}


def sensitivity(
    model: keras.Model,
    data,
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98),
    *,
    pruner="magnitude",
    metric: str | None = None,
    exclude=(),
    calibration=None,
    batches: int = 20,
    verbose: bool = True,
) -> Sensitivity:
    """Measure what each weight costs when it alone is pruned, at several sparsities.

        for each weight, for each level:
            weight = weight * mask;  recalibrate BatchNormalization;  evaluate;  put everything back

    It costs one evaluation of `data` for each weight and level, and with BatchNormalization as many forward passes of
    `batches` batches: a few batches of data are enough. A model that was trained with augmented examples needs such
    ones as `calibration`. The model does not change.

    Args:
        model: A trained and compiled model.
        data: Arrays `(x, y)`, or a dataset that can be read many times. Best are examples that neither training nor
            the final test uses.
        sparsities: Levels in (0, 1). Default: (0.5, 0.7, 0.8, 0.9, 0.95, 0.98).
        pruner: Which entries are pruned: a pruner that needs no gradients, its name or its config. Default:
            "magnitude". `Magnitude(granularity="channel")` prunes channels.
        metric: Name of a compiled metric, of which more is better, or "loss". Default: None, "accuracy" if there is
            such a metric, else "loss".
        exclude: Layers, their names, or variables to leave out; one of them or several.
        calibration: Inputs of training for the statistics of BatchNormalization, as in `tfsparse.recalibrate`. Default:
            None, `data`.
        batches: Batches of `calibration` that are used, >= 1. Default: 20.
        verbose: Whether to show a progress bar. Default: True.

    Returns:
        A `Sensitivity`: a table, a plot, and targets.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model is not compiled, if it has no such metric or no kernel, or if a level is out of range.

    Source:
        Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3.2.

    Examples:
        >>> result = tfsparse.sensitivity(model, (x_val, y_val))
        >>> print(result); result.plot()
    """
    check_keras3(model, "tfsparse.sensitivity(tfsparse.tfmot.to_keras3(model), data)")
    levels, pruner = _check_levels(sparsities), evaluation.check_pruner(pruner)
    left_out = {id(v) for v, _ in selection.Choice(exclude=exclude).resolve(model)}
    kernels = [v for v in model.trainable_variables if selection.is_prunable(v) and id(v) not in left_out]
    _check_ready(model, len(kernels), "kernels to prune")
    cuts = [[functools.partial(_prune, kernel, level, pruner) for level in levels] for kernel in kernels]
    metric, dense, values = _measure(model, data, calibration, cuts, metric, batches, verbose)
    paths, sizes = tuple(v.path for v in kernels), tuple(math.prod(v.shape) for v in kernels)
    return Sensitivity(model.name, metric, dense, paths, sizes, levels, values, tuple(kernels))


def channel_sensitivity(
    model: keras.Model,
    data,
    sparsities: Sequence[float] = (0.1, 0.25, 0.5, 0.75),
    *,
    score="l2",
    metric: str | None = None,
    calibration=None,
    batches: int = 20,
    verbose: bool = True,
) -> ChannelSensitivity:
    """Measure what each group of coupled channels costs when channels of it alone are dropped, at several sparsities.

        for each group of tfsparse.Channels(model) whose width can change, for each level:
            channels with the lowest scores = 0;  recalibrate BatchNormalization;  evaluate;  put everything back

    The cost is that of `sensitivity`, with groups in place of weights. The model does not change.

    Args:
        model: A trained and compiled Functional or Sequential model.
        data: As in `sensitivity`.
        sparsities: Fractions of the channels of a group, in (0, 1), rounded to whole channels; one always stays.
            Default: (0.1, 0.25, 0.5, 0.75).
        score: As in `tfsparse.slim`. Default: "l2".
        metric: As in `sensitivity`. Default: None.
        calibration: As in `sensitivity`. Default: None, `data`.
        batches: As in `sensitivity`. Default: 20.
        verbose: Whether to show a progress bar. Default: True.

    Returns:
        A `ChannelSensitivity`: a table, a plot, and the widths to keep.

    Raises:
        ValueError: If the model is not compiled or not a graph of layers, if it has no such metric or no group whose
            width can change, or if a level is out of range.

    Source:
        Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3.2.

    Examples:
        >>> result = tfsparse.channel_sensitivity(model, (x_val, y_val))
        >>> small = tfsparse.shrink(model, keep=result.keep(sparsity=0.3))
    """
    levels, channels = _check_levels(sparsities), Channels(model)
    groups = [group for group in channels.groups if not group.frozen]
    _check_ready(model, len(groups), "groups of channels whose width can change")
    cuts = [
        [functools.partial(mask_channels, model, channels.keep({g.name: _num_kept(len(g), s)}, score)) for s in levels]
        for g in groups
    ]
    metric, dense, values = _measure(model, data, calibration, cuts, metric, batches, verbose)
    names, sizes = tuple(g.name for g in groups), tuple(map(len, groups))
    return ChannelSensitivity(model.name, metric, dense, names, sizes, levels, values, names)


def _measure(model, data, calibration, cuts, metric, batches, verbose):
    """Return the metric, its dense value, and its values after each of the cuts: a list of functions for each item."""
    has_statistics, inputs = bool(batch_normalizations(model)), data if calibration is None else calibration

    def measured(cut):
        with variables.restored(model.variables):
            cut()
            if has_statistics:
                recalibrate(model, inputs, batches)
            return evaluation.evaluate(model, data)

    dense = measured(lambda: None)
    metric = evaluation.check_metric(metric, dense)
    bar = track([cut for row in cuts for cut in row], "sensitivity", disable=not verbose)
    values = np.reshape([float(measured(cut)[metric]) for cut in bar], (len(cuts), -1))
    return metric, float(dense[metric]), tuple(map(tuple, values.tolist()))


def _largest(levels, drops, drop):
    """Return the largest level whose drop, on straight lines between the levels, is at most `drop`."""
    if drops[-1] <= drop:
        return levels[-1]
    i = next(i for i, d in enumerate(drops) if d > drop)
    return levels[i - 1] + (levels[i] - levels[i - 1]) * (drop - drops[i - 1]) / (drops[i] - drops[i - 1])


def _num_kept(size, sparsity):
    return max(1, round((1 - sparsity) * size))


def _prune(kernel, sparsity, pruner):
    value = ops.convert_to_tensor(kernel)
    count = pruner.num_prunable(tuple(kernel.shape), sparsity)
    (mask,) = pruner.masks([value], [None], [ops.ones_like(value)], [count])
    kernel.assign(value * mask)


def _check_ready(model, count, what):
    if not count or not model.compiled:
        raise ValueError(
            f"Model {model.name!r} has {count} {what} and is {'' if model.compiled else 'not '}compiled: expected a "
            "compiled model with some of them, model.compile(optimizer, loss, metrics=[...])."
        )


def _check_levels(sparsities):
    levels = tuple(sorted(map(float, sparsities)))
    if not levels or not 0 < levels[0] <= levels[-1] < 1:
        raise ValueError(f"sparsities={sparsities!r}: expected fractions between 0 and 1, for example (0.5, 0.8, 0.9).")
    return levels
