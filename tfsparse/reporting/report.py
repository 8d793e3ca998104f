"""The sparsity of a model: zeros counted in its weights, beside the targets."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.backend.extras import require
from tfsparse.backend.tables import Column, Printed, count, make_table, shape
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.pruners import selection
from tfsparse.structured import multiply_adds


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel of a report.

    Args:
        weight: Path of the variable.
        shape: Its shape.
        target: Target sparsity in [0, 1); None if the optimizer does not prune it.
        sparsity: Fraction of zeros in [0, 1].
        size: Number of entries.
        kept: Number of entries that are not zero.
        flops: FLOPs per example, two for each multiply-add; None if unknown.
        effective_flops: FLOPs per example without multiplications by zero; None if unknown.
        masked: Whether it has a mask: of the optimizer, or of trainable thresholds.
    """

    weight: str
    shape: tuple[int, ...]
    target: float | None
    sparsity: float
    size: int
    kept: int
    flops: int | None
    effective_flops: int | None
    masked: bool


@dataclasses.dataclass(frozen=True)
class Report(Printed):
    """Rows and totals of a model. `print` shows them as a table.

    Args:
        model: Name of the model.
        rows: One `Row` for each kernel.
        parameters: Number of trainable parameters.
        nonzero_parameters: Number of those that are not zero.
        sync_stats: What the replicas have sent each other for their masks in this process; None with one replica.

    Examples:
        >>> report = tfsparse.report(model); print(report); report.as_dict()["sparsity"]
    """

    model: str
    rows: tuple[Row, ...]
    parameters: int
    nonzero_parameters: int
    sync_stats: SyncStats | None = None

    @property
    def size(self) -> int:
        """Number of entries of all rows."""
        return sum(r.size for r in self.rows)

    @property
    def kept(self) -> int:
        """Number of entries of all rows that are not zero."""
        return sum(r.kept for r in self.rows)

    @property
    def pruned(self) -> tuple[Row, ...]:
        """The rows with a mask; if no row has one, the rows with zeros."""
        return tuple(r for r in self.rows if r.masked) or tuple(r for r in self.rows if r.sparsity > 0)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the pruned rows."""
        size = sum(r.size for r in self.pruned)
        return 1 - sum(r.kept for r in self.pruned) / size if size else 0.0

    @property
    def flops(self) -> int | None:
        """FLOPs of all rows per example; None if one is unknown."""
        return multiply_adds.total(r.flops for r in self.rows)

    @property
    def effective_flops(self) -> int | None:
        """FLOPs of all rows per example without multiplications by zero; None if one is unknown."""
        return multiply_adds.total(r.effective_flops for r in self.rows)

    def as_dict(self) -> dict:
        """Return rows and totals as a dict that JSON can store."""
        totals = ("sparsity", "size", "kept", "flops", "effective_flops")
        return super().as_dict() | {name: getattr(self, name) for name in totals}

    def to_dataframe(self):
        """Return the rows as a pandas DataFrame; `pip install 'tfsparse[pandas]'` installs pandas."""
        return require("pandas", "pandas").DataFrame([dataclasses.asdict(r) for r in self.rows])

    def table(self):
        """Return a `rich.table.Table`."""
        title = f"{self.model}: {self.sparsity:.2%} of the pruned weights are zero"
        caption = f"{self.nonzero_parameters:,} of {self.parameters:,} parameters are not zero"
        if self.sync_stats is not None:
            times, sent = f"{self.sync_stats.num_syncs:,}", f"{self.sync_stats.bytes:,}"
            caption += f"; replicas compared their masks {times} times, {sent} bytes sent by each"
        table = make_table(_COLUMNS, self.rows, title=title, caption=caption)
        table.add_section()
        sizes = map(count, (self.kept, self.size, self.flops, self.effective_flops))
        table.add_row("all kernels", "", "", f"{1 - self.kept / self.size if self.size else 0:.4f}", *sizes)
        return table


_COLUMNS = (
    "weight",
    Column("shape", text=shape, justify="right"),
    Column("target", text=lambda target: "-" if target is None else f"{target:.4f}", justify="right"),
    Column("sparsity", text="{:.4f}".format, justify="right"),
    Column("kept", text=count, justify="right"),
    Column("of", "size", count, "right"),
    Column("FLOPs", "flops", count, "right"),
    Column("effective", "effective_flops", count, "right"),
)


def report(model: keras.Model) -> Report:
    """Count the zeros of a model, kernel by kernel, beside the targets.

    Weights are counted, settings are not trusted. With a global threshold, the target of every kernel is that of all of
    them together. For layers with trainable thresholds, the weights they compute with are counted, and the thresholds
    are not. For layers quantised to int8, the integers are counted; zeros stay zero in them.

    Args:
        model: A built model.

    Returns:
        A `Report`. FLOPs are None where they are unknown: in subclassed models, for layers without a rule (see
        `tfsparse.structured.multiply_adds.register`), and where the model leaves the size of its input open.

    Raises:
        ValueError: If a layer is quantised to another type than int8, where several weights share a byte.

    Examples:
        >>> tfsparse.report(model).table()
    """
    thresholds = {id(v) for layer in masked_layer.masked_layers(model) for v in layer.own_variables}
    variables = [v for v in model.trainable_variables if id(v) not in thresholds] + _quantized_kernels(model)
    masks = {id(kernel): ops.convert_to_numpy(mask) for kernel, mask in masked_layer.layer_masks(model)}
    kept = {id(v): int(np.count_nonzero(ops.convert_to_numpy(v) * masks.get(id(v), 1))) for v in variables}
    targets, uses = _targets(model), multiply_adds.uses_per_entry(model)
    shown = [v for v in variables if selection.is_prunable(v) or id(v) in targets]
    rows = tuple(_row(v, targets.get(id(v)), uses.get(id(v)), kept[id(v)], id(v) in masks) for v in shown)
    parameters = sum(math.prod(v.shape) for v in variables)
    return Report(model.name, rows, parameters, sum(kept.values()), _sync_stats(model))


def _quantized_kernels(model) -> list:
    """Return the kernels that Keras has quantised: integers, which are not trainable."""
    integers = [v for v in model.non_trainable_variables if selection.is_prunable(v) and "int" in v.dtype]
    for layer in keras_internals.all_layers(model) if integers else ():
        mode = getattr(layer, "quantization_mode", None)
        if mode not in (None, "int8") and any(v is kernel for v in layer.weights for kernel in integers):
            raise ValueError(
                f"{layer.path} is quantised ({mode}): several weights share a byte, so zeros cannot be counted. "
                "Call tfsparse.report(model) before model.quantize, or quantise to int8."
            )
    return integers


def _row(variable, target, uses, kept, thresholded):
    size = math.prod(variable.shape)
    flops, effective = (None if uses is None else 2 * entries * uses for entries in (size, kept))
    masked = thresholded or target is not None
    return Row(variable.path, tuple(variable.shape), target, 1 - kept / size, size, kept, flops, effective, masked)


def _sync_stats(model):
    """Return what the replicas have sent each other for their masks; None if nothing."""
    stats = getattr(compiled_model.sparse_optimizer(model), "sync_stats", SyncStats())
    return dataclasses.replace(stats) if stats.num_syncs else None


def _targets(model) -> dict:
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return {}
    counts = ops.convert_to_numpy(optimizer.target)
    sizes = [math.prod(v.shape) for v in optimizer.pruned_variables]
    if optimizer.pruner.is_global:
        counts, sizes = [sum(counts)] * len(sizes), [sum(sizes)] * len(sizes)
    rows = zip(optimizer.pruned_variables, counts, sizes, strict=True)
    return {id(v): int(count) / size for v, count, size in rows}

