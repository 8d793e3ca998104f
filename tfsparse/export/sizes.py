"""The bytes of a model in every form: on disk, and in memory."""

import contextlib
import dataclasses
import functools
import gzip
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np

from tfsparse.backend.tables import Column, Printed, count, make_table
from tfsparse.export import packing, tflite
from tfsparse.export.saved_model import export, write_for_tflite

CODE, UNPACKING, TENSORFLOW, TFLITE = "code", "code, unpacking", "TensorFlow", "TFLite"
LEVELS = {"gzip": 9, "zstd": 12}  # zstd's 19 takes 13 times as long as its 12 and gains a twentieth: 10 MB, 90 % zeros


@dataclasses.dataclass(frozen=True)
class Row:
    """One form of a model.

    Args:
        form: Its name.
        bytes: Bytes of the whole model; None if the model cannot have this form.
        sparse_bytes: Bytes of its sparse weights; None if they cannot be told apart.
        memory_bytes: Bytes of all weights in memory; None if unknown.
        needs: What must be there to run the form; or why the model cannot have it.
    """

    form: str
    bytes: int | None
    sparse_bytes: int | None
    memory_bytes: int | None
    needs: str


@dataclasses.dataclass(frozen=True, repr=False)
class Sizes(Printed):
    """The forms of a model, the raw weights first. `print` shows them as a table.

    Args:
        model: Name of the model.
        sparsity: Fraction of zeros in its sparse weights.
        rows: One `Row` for each form.

    Examples:
        >>> sizes = tfsparse.sizes(model); print(sizes); sizes.as_dict()["rows"]
    """

    width = 130
    model: str
    sparsity: float
    rows: tuple[Row, ...]

    def table(self):
        """Return a `rich.table.Table`."""
        raw = self.rows[0]
        columns = (
            "form",
            Column("bytes", "bytes", count, "right"),
            Column("times smaller", lambda r: _times(raw.bytes, r.bytes), justify="right"),
            Column("sparse weights", "sparse_bytes", count, "right"),
            Column("times smaller", lambda r: _times(raw.sparse_bytes, r.sparse_bytes), justify="right"),
            Column("in memory", "memory_bytes", count, "right"),
            Column("to run", "needs"),
        )
        title = f"{self.model}: {self.sparsity:.2%} of its sparse weights are zero"
        caption = "bytes: of all weights; of a SavedModel or TFLite of all files. In memory: all weights, dense"
        return make_table(columns, self.rows, title=title, caption=caption)


@dataclasses.dataclass(frozen=True)
class DenseModel:
    """What the bytes of a form are measured from.

    Args:
        directory: The model as a dense SavedModel. Forms may write to the directories beside it.
        weights: All weights that it computes with.
        representative: Examples for TFLite, or None.
    """

    directory: pathlib.Path
    weights: list[np.ndarray]
    representative: object = None

    @functools.cached_property
    def sparse(self) -> list[np.ndarray]:
        """The weights that `export` packs."""
        return [a for a in self.weights if packing.sparse_parts(a) is not None]

    @property
    def memory_bytes(self) -> int:
        """Bytes of all weights when dense."""
        return sum(a.nbytes for a in self.weights)

    def row(self, form: str, sparse_bytes: int, needs: str = UNPACKING) -> Row:
        """Return the row of a form that stores sparse weights in `sparse_bytes` and all others as they are."""
        others = self.memory_bytes - sum(a.nbytes for a in self.sparse)
        return Row(form, sparse_bytes + others, sparse_bytes, self.memory_bytes, needs)


_FORMS: list[Callable[[DenseModel], Iterable[Row]]] = []


def register_form(rows: Callable[[DenseModel], Iterable[Row]]):
    """Add a form, or several, to what `sizes` measures; a decorator.

    Args:
        rows: Function that takes a `DenseModel` and returns or yields `Row`s.

    Returns:
        `rows`.

    Examples:
        >>> @register_form
        ... def bfloat16(model):
        ...     yield model.row("bfloat16", sum(2 * a.size for a in model.sparse))
    """
    _FORMS.append(rows)
    return rows


def sizes(
    model: keras.Model,
    representative: np.ndarray | Mapping[str, np.ndarray] | str | os.PathLike | None = None,
) -> Sizes:
    """Measure the bytes of a model in every form.

        raw weights     the bytes of all weights; in the next rows only the sparse ones have another form
        gzip, zstd      compressed as they are; zstd if Python has it (3.14) or `tfsparse[zstd]` is installed
        bitmask         one bit per weight, and the bytes of those that are not zero
        packed          the files that `tfsparse.export` makes of them, with each of its `values`
        SavedModel      the whole directories that `tfsparse.export` writes
        TFLite          the files of `tfsparse.export_tflite`, and the converter's dense one; int8 with `representative`

    Sparse weights are those that `export` packs. In all forms but TFLite's, the model computes with dense weights.
    Directories are written to a temporary directory and measured there. Without a TFLite file the row says why.

    Args:
        model: A Keras 3 or tf_keras model, not a path.
        representative: Examples of the model's inputs along the first axis: an array, a dict of arrays by the name of
            the input, or the path of a file of `numpy.save` or `numpy.savez`. Default: None, without int8 in TFLite.

    Returns:
        A `Sizes`.

    Raises:
        ValueError: If `model` cannot be exported, or if `representative` does not fit it.

    Examples:
        >>> print(tfsparse.sizes(model, representative=x[:200]))
    """
    from tfsparse.export import rewriting  # not at the top: it imports TensorFlow

    with tempfile.TemporaryDirectory() as folder:
        directory = write_for_tflite(model, pathlib.Path(folder) / "dense")
        measured = DenseModel(directory, [array for _, array in rewriting.weights(directory)], representative)
        rows = tuple(row for form in _FORMS for row in form(measured))
    size, kept = (sum(int(f(a)) for a in measured.sparse) for f in (np.size, np.count_nonzero))
    return Sizes(model.name, 1 - kept / size if size else 0.0, rows)


@register_form
def _weights_alone(model) -> Iterator[Row]:
    yield model.row("raw weights", sum(a.nbytes for a in model.sparse), CODE)
    forms = {"gzip": lambda a: len(gzip.compress(a.tobytes(), LEVELS["gzip"]))}
    if (compress := _zstd()) is not None:
        forms["zstd"] = lambda a: len(compress(a.tobytes()))
    forms["bitmask"] = lambda a: len(packing.bits_and_bytes(a))
    forms |= {f"packed, {v}": lambda a, v=v: _packed_bytes(a, v) for v in packing.value_types}
    for form, num_bytes in forms.items():
        yield model.row(form, sum(map(num_bytes, model.sparse)))


@register_form
def _saved_models(model) -> Iterator[Row]:
    yield Row("SavedModel, dense", _directory_bytes(model.directory), None, model.memory_bytes, TENSORFLOW)
    for values in packing.value_types:
        packed = export(model.directory, model.directory.parent / values, values)
        weights = _directory_bytes(packed, "assets/packed_*") + packing.scale_bytes(model.sparse, values)
        yield Row(f"SavedModel, {values}", _directory_bytes(packed), weights, model.memory_bytes, TENSORFLOW)


@register_form
def _tflite_files(model) -> Iterator[Row]:
    """Yield the rows of TFLite. If there is no file in float32, there is no other either."""
    for values in tflite.VALUES if model.representative is not None else tflite.VALUES[:-1]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dense, sparse, _ = tflite.convert_and_check(str(model.directory), values, model.representative)
        except tflite.WrongExamples:
            raise
        except ValueError as error:
            yield Row(f"TFLite, {values}", None, None, None, f"there is none: {error}")
            if values == "float32":
                return
        else:
            if values == "float32":
                yield Row("TFLite, dense", len(dense), None, None, TFLITE)
            yield Row(f"TFLite, {values}", len(sparse), None, None, TFLITE)


def _zstd():
    """Return zstd's function that compresses bytes: Python's (3.14), or that of the package `zstandard`, or None."""
    with contextlib.suppress(ImportError):
        from compression import zstd

        return lambda content: zstd.compress(content, LEVELS["zstd"])
    with contextlib.suppress(ImportError):
        import zstandard

        return zstandard.ZstdCompressor(level=LEVELS["zstd"]).compress
    return None


def _packed_bytes(array, values):
    """Return the bytes of the files of a weight, and of its scale."""
    stored, _ = packing.stored(array, values)
    return sum(len(packing.encode(piece)) for piece in packing.pieces(stored)) + packing.scale_bytes([array], values)


def _directory_bytes(directory, pattern="**/*"):
    return sum(f.stat().st_size for f in directory.glob(pattern) if f.is_file())


def _times(before, after):
    return f"{before / after:.1f}" if before and after else "-"
