"""The sparsity of a model: zeros counted in its weights, beside the targets."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from tfsparse import methods
from tfsparse.backend import keras_internals
from tfsparse.backend.extras import require
from tfsparse.backend.tables import Column, Printed, count, make_table, shape
from tfsparse.backend.weight_names import weight_names
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.pruners import left_dense, selection
from tfsparse.structured import multiply_adds


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel of a report.

    Args:
        weight: Name of the variable: its path, which is numbered if other weights have it too.
        shape: Its shape.
        target: Target sparsity in [0, 1); None if the optimizer does not prune it.
        sparsity: Fraction of zeros in [0, 1].
        size: Number of entries.
        kept: Number of entries that are not zero.
        flops: FLOPs per example, two for each multiply-add; None if unknown.
        effective_flops: FLOPs per example without multiplications by zero; None if unknown.
        masked: Whether it has a mask: of the optimizer, or of trainable thresholds.
        dense_because: Why it has no mask in a model that is pruned; None if it has one, or nothing is pruned.
        broken: Number of entries that are not zero although the mask prunes them: something else than training has
            written them.
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
    dense_because: str | None = None
    broken: int = 0


@dataclasses.dataclass(frozen=True)
class Dense:
    """A weight of rank 2 or more that is no kernel, and so is not pruned unless it is chosen.

    Args:
        weight: Name of the variable.
        shape: Its shape.
        size: Number of entries.
        because: Why it stays dense, and what to write instead.
    """

    weight: str
    shape: tuple[int, ...]
    size: int
    because: str


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Printed):
    """Rows and totals of a model, shown as a table by `print`, at a prompt and in a notebook.

    Args:
        model: Name of the model.
        rows: One `Row` for each kernel.
        parameters: Number of parameters that are trained unless they are frozen.
        nonzero_parameters: Number of those that are not zero.
        sync_stats: What the replicas have sent each other for their masks in this process; None with one replica.
        dense: One `Dense` for each weight of rank 2 or more that has no row.
        unfinished: One sentence if the model is from before its target was reached; else None.

    Examples:
        >>> report = tfsparse.report(model); print(report); report.as_dict()["sparsity"]
    """

    model: str
    rows: tuple[Row, ...]
    parameters: int
    nonzero_parameters: int
    sync_stats: SyncStats | None = None
    dense: tuple[Dense, ...] = ()
    unfinished: str | None = None

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
        """The rows with a mask, and those of frozen kernels with zeros; if there is none, all rows with zeros."""
        frozen = [r for r in self.rows if r.dense_because == _FROZEN and r.sparsity > 0]
        masked = {r.weight for r in self.rows if r.masked} | {r.weight for r in frozen}
        return tuple(r for r in self.rows if r.weight in masked) or tuple(r for r in self.rows if r.sparsity > 0)

    @property
    def model_sparsity(self) -> float:
        """Fraction of zeros in all parameters, also in those that nothing prunes."""
        return 1 - self.nonzero_parameters / self.parameters if self.parameters else 0.0

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
        totals = ("sparsity", "model_sparsity", "size", "kept", "flops", "effective_flops")
        return super().as_dict() | {name: getattr(self, name) for name in totals}

    def to_dataframe(self):
        """Return the rows as a pandas DataFrame; `pip install 'tfsparse[pandas]'` installs pandas."""
        return require("pandas", "pandas").DataFrame([dataclasses.asdict(r) for r in self.rows])

    def table(self):
        """Return a `rich.table.Table`."""
        title = f"{self.model}: {self.sparsity:.2%} of the pruned weights are zero"
        caption = f"{self.nonzero_parameters:,} of {self.parameters:,} parameters are not zero"
        if broken := [r.weight for r in self.rows if r.broken]:
            caption += f"; masks prune entries that are not zero in {', '.join(broken)}: call optimizer.apply_masks()"
        if self.sync_stats is not None:
            times, sent = f"{self.sync_stats.num_syncs:,}", f"{self.sync_stats.bytes:,}"
            caption += f"; replicas compared their masks {times} times, {sent} bytes sent by each"
        caption += f"\n{self.unfinished}" if self.unfinished else ""
        table = make_table(_COLUMNS, self.rows, title=title, caption=caption + self._dense_lines())
        table.add_section()
        sizes = map(count, (self.kept, self.size, self.flops, self.effective_flops))
        table.add_row("all kernels", "", "", f"{1 - self.kept / self.size if self.size else 0:.4f}", *sizes)
        return table

    def _dense_lines(self):
        """Return one line for each weight that stays dense although the model is pruned."""
        if not self.pruned:
            return ""
        lines = [f"\n{r.weight} is dense: {r.dense_because}" for r in self.rows if r.dense_because and not r.sparsity]
        largest_first = sorted(self.dense, key=lambda d: -d.size)
        lines += [f"\n{d.weight}, {d.size:,} entries, is dense: {d.because}" for d in largest_first]
        return "".join(lines[:_MAX_LINES]) + (f"\nand {len(lines) - _MAX_LINES} more" if lines[_MAX_LINES:] else "")


_MAX_LINES = 12
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

    Weights are counted, settings are not trusted, and frozen layers count like others. With a global threshold, the
    target of every kernel is that of all of them together. For layers with trainable thresholds, the weights they
    compute with are counted, and the thresholds are not. For layers quantised to int8, the integers are counted; zeros
    stay zero in them. Weights of rank 2 or more that nothing prunes are listed with the reason. A model or file from
    before its target was reached, as `ModelCheckpoint(save_best_only=True)` writes it without `AtTarget`, says so.

    Args:
        model: A built model.

    Returns:
        A `Report`. FLOPs are None where they are unknown: in subclassed models, for layers without a rule (see
        `tfsparse.structured.multiply_adds.register`), and where the model leaves the size of its input open.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If a layer is quantised to another type than int8, where several weights share a byte.

    Examples:
        >>> tfsparse.report(model).table()
    """
    compiled_model.check_keras3(model, "tfsparse.report(tfsparse.tfmot.to_keras3(model))")
    thresholds = {id(v) for layer in masked_layer.masked_layers(model) for v in layer.own_variables}
    variables = [v for v in keras_internals.trained_weights(model) if id(v) not in thresholds]
    variables += _quantized_kernels(model)
    masks = {id(kernel): ops.convert_to_numpy(mask) for kernel, mask in masked_layer.layer_masks(model)}
    kept = {id(v): int(np.count_nonzero(ops.convert_to_numpy(v) * masks.get(id(v), 1))) for v in variables}
    targets, names = _targets(model), weight_names(model)
    reasons = _Reasons(model, {*targets, *masks})
    kernels = [v for v in variables if selection.is_prunable(v) or id(v) in targets]
    shown = {id(v) for v in kernels}
    others = [v for v in variables if id(v) not in shown and len(v.shape) > 1]
    dense = (Dense(names[id(v)], tuple(v.shape), math.prod(v.shape), reasons.other(v)) for v in others)
    rows = _rows(model, kernels, names, targets, kept, reasons)
    parameters = sum(math.prod(v.shape) for v in variables)
    counts, unfinished = (parameters, sum(kept.values())), methods.unfinished(model)
    return Report(model.name, rows, *counts, _sync_stats(model), tuple(dense), unfinished)


def _rows(model, kernels, names, targets, kept, reasons):
    uses, broken = multiply_adds.uses_per_entry(model), compiled_model.broken_masks(model)
    rows = []
    for v in kernels:
        key, name = id(v), names[id(v)]
        counts, because = _counts(math.prod(v.shape), kept[key], uses.get(key)), reasons.kernel(v)
        masked = reasons.is_masked(v)
        rows.append(Row(name, tuple(v.shape), targets.get(key), *counts, masked, because, broken.get(name, 0)))
    return tuple(rows)


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


def _counts(size, kept, uses):
    """Return sparsity, size, kept, FLOPs and effective FLOPs of a row."""
    return 1 - kept / size, size, kept, *(None if uses is None else 2 * entries * uses for entries in (size, kept))


_FROZEN = "it is frozen"


class _Reasons:
    """Says why weights of a model are dense.

    Args:
        model: The model.
        masked: The ids of the weights that have a mask.
    """

    def __init__(self, model, masked):
        optimizer = compiled_model.sparse_optimizer(model)
        self._masked, self._trainable = masked, {id(v) for v in model.trainable_variables}
        self._untrained = {id(v) for v in optimizer.untrained_variables} if optimizer else set()
        self._excluded = {id(v) for v in optimizer.excluded_variables} if optimizer else set()
        self._known = {id(v) for v in keras_internals.trained_variables(optimizer)} if optimizer else set()
        self._sparsity = (optimizer.sparsity if optimizer else 0) or 0.5
        self._owners = left_dense.owners(model)

    def is_masked(self, variable) -> bool:
        return id(variable) in self._masked

    def kernel(self, variable) -> str | None:
        """Return why a kernel has no mask; None if it has one, or nothing in the model has."""
        if self.is_masked(variable):
            return None
        if id(variable) not in self._trainable:
            return _FROZEN
        chosen = self._chosen(variable)
        if chosen or not self._masked:
            return chosen
        if id(variable) in self._known:
            return left_dense.TOO_FEW_UNITS
        return "the optimizer was built before it was unfrozen" if self._known else "its layer has no thresholds"

    def other(self, variable) -> str:
        """Return why a weight that is no kernel is not pruned."""
        if id(variable) not in self._trainable:
            return _FROZEN
        return self._chosen(variable) or left_dense.reason(variable, self._owners[id(variable)], self._sparsity)

    def _chosen(self, variable):
        if id(variable) in self._untrained:
            return "no gradient reaches it"
        return "it is excluded" if id(variable) in self._excluded else None


def _sync_stats(model):
    """Return what the replicas have sent each other for their masks; None if nothing."""
    stats = getattr(compiled_model.sparse_optimizer(model), "sync_stats", SyncStats())
    return dataclasses.replace(stats) if stats.num_syncs else None


def _targets(model) -> dict:
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return {}
    counts = optimizer.mask_state.target_counts()
    sizes = [math.prod(v.shape) for v in optimizer.pruned_variables]
    groups = optimizer.mask_state.groups if optimizer.pruner.is_global else [[i] for i in range(len(sizes))]
    shared = {i: sum(int(counts[j]) for j in group) / sum(sizes[j] for j in group) for group in groups for i in group}
    return {id(v): shared[i] for i, v in enumerate(optimizer.pruned_variables)}
