"""What is there: counted in the weights, never taken from a setting."""

import dataclasses
import json
import math

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.pruners import selection
from tfsparse.reporting.tables import Printed
from tfsparse.structured import multiply_adds


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel: sizes in entries, sparsities in [0, 1], FLOPs per example (2 per multiply-add) or None if unknown;
    `masked`: it has a mask, the optimizer's or that of its own thresholds."""

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
    """Rows and totals of a model; prints itself as a table. `sync_stats` is what replicas have sent each other in the
    trainings of this process, None where there was one only.

    >>> report = tfsparse.report(model); print(report); report.as_dict()["sparsity"]
    """

    model: str
    rows: tuple[Row, ...]
    parameters: int
    nonzero_parameters: int
    sync_stats: SyncStats | None = None

    @property
    def size(self) -> int:
        """Entries of all rows."""
        return sum(r.size for r in self.rows)

    @property
    def kept(self) -> int:
        """Entries of all rows that are not zero."""
        return sum(r.kept for r in self.rows)

    @property
    def pruned(self) -> tuple[Row, ...]:
        """The rows with a mask, or where there is none, those with zeros."""
        return tuple(r for r in self.rows if r.masked) or tuple(r for r in self.rows if r.sparsity > 0)

    @property
    def sparsity(self) -> float:
        """Zeros over entries of the pruned rows."""
        size = sum(r.size for r in self.pruned)
        return 1 - sum(r.kept for r in self.pruned) / size if size else 0.0

    @property
    def flops(self) -> int | None:
        """FLOPs of all kernels per example; None if one is unknown."""
        return multiply_adds.total(r.flops for r in self.rows)

    @property
    def effective_flops(self) -> int | None:
        """The part of `flops` that is not a multiplication by zero."""
        return multiply_adds.total(r.effective_flops for r in self.rows)

    def as_dict(self) -> dict:
        """Everything, ready for JSON."""
        totals = ("sparsity", "size", "kept", "flops", "effective_flops")
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain | {name: getattr(self, name) for name in totals}

    def to_dataframe(self):
        """The rows as a pandas DataFrame.

        Raises: ImportError if pandas is not installed (`pip install tfsparse[pandas]`).
        """
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(r) for r in self.rows])

    def table(self):
        """A `rich.table.Table`."""
        from rich.table import Table

        table = Table(title=f"{self.model}: {self.sparsity:.2%} of the pruned weights are zero")
        for name in ("weight", "shape", "target", "sparsity", "kept", "of", "FLOPs", "effective"):
            table.add_column(name, justify="left" if name == "weight" else "right", overflow="fold")
        for r in self.rows:
            target = "-" if r.target is None else f"{r.target:.4f}"
            sizes = (f"{r.kept:,}", f"{r.size:,}", _number(r.flops), _number(r.effective_flops))
            table.add_row(r.weight, "x".join(map(str, r.shape)), target, f"{r.sparsity:.4f}", *sizes)
        table.add_section()
        sizes = (f"{self.kept:,}", f"{self.size:,}", _number(self.flops), _number(self.effective_flops))
        table.add_row("all kernels", "", "", f"{1 - self.kept / self.size if self.size else 0:.4f}", *sizes)
        table.caption = f"{self.nonzero_parameters:,} of {self.parameters:,} parameters are not zero"
        if self.sync_stats is not None:
            times, sent = f"{self.sync_stats.num_syncs:,}", f"{self.sync_stats.bytes:,}"
            table.caption += f"; replicas compared their masks {times} times, {sent} bytes sent by each"
        return table


def report(model: keras.Model) -> Report:
    """Count the zeros of a model, kernel by kernel, next to what was asked.

    `target` is what the optimizer asks of the weight (with a global threshold: of all of them together; None without
    pruning). Of layers with trainable thresholds that is counted which they compute with, and not the thresholds. FLOPs
    are those of the kernels' multiply-adds; None where a layer's output shape is unknown (subclassed models). Of layers
    that `model.quantize("int8")` has quantised the integers are counted, in which zeros are zero as before.

    Raises: ValueError for layers quantised otherwise, in whose bytes zeros cannot be counted.

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
    return Report(model.name, rows, parameters, sum(kept.values()), _traffic(model))


def _quantized_kernels(model) -> list:
    """The integers, not trainable, that stand where Keras has quantised a kernel."""
    integers = [v for v in model.non_trainable_variables if selection.is_prunable(v) and "int" in v.dtype]
    for layer in keras_internals.all_layers(model) if integers else ():
        mode = getattr(layer, "quantization_mode", None)
        if mode not in (None, "int8") and any(v is kernel for v in layer.weights for kernel in integers):
            raise ValueError(
                f"{layer.path} is quantised ({mode}): several weights share a byte, so that zeros cannot be counted. "
                "Write tfsparse.report(model) before model.quantize, or quantise to int8."
            )
    return integers


def _row(variable, target, uses, kept, thresholded):
    size = math.prod(variable.shape)
    flops, effective = (None if uses is None else 2 * entries * uses for entries in (size, kept))
    masked = thresholded or target is not None
    return Row(variable.path, tuple(variable.shape), target, 1 - kept / size, size, kept, flops, effective, masked)


def _traffic(model):
    """What the replicas have sent each other for their masks; None if they have not."""
    sync_stats = getattr(compiled_model.sparse_optimizer(model), "sync_stats", SyncStats())
    return dataclasses.replace(sync_stats) if sync_stats.num_syncs else None


def _targets(model) -> dict:
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return {}
    counts = ops.convert_to_numpy(optimizer.target)
    sizes = [math.prod(v.shape) for v in optimizer.pruned_variables]
    if optimizer.pruner.is_global:
        shares = [int(sum(counts)) / sum(sizes)] * len(sizes)
    else:
        shares = [int(c) / n for c, n in zip(counts, sizes, strict=True)]
    return {id(v): share for v, share in zip(optimizer.pruned_variables, shares, strict=True)}


def _number(value):
    return "-" if value is None else f"{value:,}"
