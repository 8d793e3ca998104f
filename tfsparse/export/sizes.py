"""What a model takes: on disk in each form, and in memory."""

import contextlib
import dataclasses
import gzip
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping

import keras
import numpy as np

from tfsparse.export import packing, tflite
from tfsparse.export.saved_model import export
from tfsparse.reporting.tables import Printed

CODE, UNPACKING, TENSORFLOW, TFLITE = "code", "code, unpacking", "TensorFlow", "TFLite"
LEVELS = {"gzip": 9, "zstd": 12}  # zstd's 19 takes 13 times as long as its 12 and gains a twentieth: 10 MB, 90 % zeros


@dataclasses.dataclass(frozen=True)
class Row:
    """One form of a model: bytes of all of it, and of its sparse weights alone (None where they cannot be told apart);
    bytes of all weights in memory (None where that is not known); and what must happen or be there to run it. A form
    that the model cannot have has no `bytes`, and `needs` says why."""

    form: str
    bytes: int | None
    sparse_bytes: int | None
    memory: int | None
    needs: str


@dataclasses.dataclass(frozen=True)
class Sizes(Printed):
    """Rows of a model, the dense weights first; prints itself as a table.

    >>> sizes = tfsparse.sizes(model); print(sizes); sizes.as_dict()["rows"]
    """

    width = 130
    model: str
    sparsity: float
    rows: tuple[Row, ...]

    def as_dict(self) -> dict:
        """Everything, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def table(self):
        """A `rich.table.Table`."""
        from rich.table import Table

        table = Table(title=f"{self.model}: {self.sparsity:.2%} of its sparse weights are zero")
        for name in ("form", "bytes", "times smaller", "sparse weights", "times smaller", "in memory", "to run"):
            table.add_column(name, justify="left" if name in ("form", "to run") else "right", overflow="fold")
        raw = self.rows[0]
        for r in self.rows:
            whole = (_number(r.bytes), _times(raw.bytes, r.bytes))
            sparse = (_number(r.sparse_bytes), _times(raw.sparse_bytes, r.sparse_bytes))
            table.add_row(r.form, *whole, *sparse, _number(r.memory), r.needs)
        table.caption = "bytes: of all weights; of a SavedModel or TFLite of all files. In memory: all weights, dense"
        return table


def sizes(
    model: keras.Model,
    representative: np.ndarray | Mapping[str, np.ndarray] | str | os.PathLike | None = None,
) -> Sizes:
    """Measure a model in every form in which it can be kept.

        raw weights     the bytes of all weights; in the next rows only the sparse ones take another form
        gzip, zstd      compressed as they are; zstd if Python has it (3.14) or `tfsparse[zstd]` is installed
        bitmask         a bit per weight, and the bytes of those that are not zero
        packed          the files that `tfsparse.export` makes of them, with each of its `values`
        SavedModel      the whole directories that `tfsparse.export` writes
        TFLite          the files of `tfsparse.export_tflite`, and the converter's dense one; int8 with `representative`

    Sparse weights are those that `export` packs. However they lie on disk, TensorFlow computes with dense ones.
    Directories are written to a temporary place and measured there. Where no TFLite file can be made, the row says why.

    Args:
        model: a Keras 3 or tf_keras model, as for `tfsparse.export`; not a path.
        representative: examples, as for `tfsparse.export_tflite`.

    Raises: as `tfsparse.export`; ValueError for `representative` that do not fit the model.

    >>> print(tfsparse.sizes(model, representative=x[:200]))
    """
    from tfsparse.export import rewriting  # late: it imports TensorFlow

    with tempfile.TemporaryDirectory() as folder:
        dense = export(model, pathlib.Path(folder) / "dense", dense=True)
        weights = [array for _, array in rewriting.weights(dense)]
        sparse = [a for a in weights if packing.sparse_parts(a) is not None]
        memory = sum(a.nbytes for a in weights)
        rows = (*_weights(sparse, memory), *_saved_models(dense, sparse, memory), *_tflite(dense, representative))
    entries = sum(a.size for a in sparse)
    living = sum(int(np.count_nonzero(a)) for a in sparse)
    return Sizes(model.name, 1 - living / entries if entries else 0.0, rows)


def _weights(sparse, memory):
    """The weights alone."""
    rest = memory - sum(a.nbytes for a in sparse)
    forms = {
        "raw weights": lambda a: a.nbytes,
        "gzip": lambda a: len(gzip.compress(a.tobytes(), LEVELS["gzip"])),
    }
    if (compress := _zstd()) is not None:
        forms["zstd"] = lambda a: len(compress(a.tobytes()))
    forms["bitmask"] = lambda a: len(packing.bits_and_bytes(a))
    forms |= {f"packed, {v}": lambda a, v=v: _packed(a, v) for v in packing.VALUES}
    for form, measure in forms.items():
        size = sum(map(measure, sparse))
        yield Row(form, size + rest, size, memory, CODE if form == "raw weights" else UNPACKING)


def _zstd():
    """What compresses bytes: of Python, from 3.14 on, or of the package `zstandard`; None without either."""
    with contextlib.suppress(ImportError):
        from compression import zstd

        return lambda content: zstd.compress(content, LEVELS["zstd"])
    with contextlib.suppress(ImportError):
        import zstandard

        return zstandard.ZstdCompressor(level=LEVELS["zstd"]).compress
    return None


def _packed(array, values):
    """Bytes of the files, and of the scales of int8."""
    stored, _ = packing.stored(array, values)
    return sum(len(packing.encode(piece)) for piece in packing.pieces(stored)) + packing.scale_bytes([array], values)


def _saved_models(dense, sparse, memory):
    """Directories that TensorFlow serves as they are."""
    yield Row("SavedModel, dense", _size(dense), None, memory, TENSORFLOW)
    for values in packing.VALUES:
        packed = export(dense, dense.parent / values, values)
        assets = sum(f.stat().st_size for f in packed.glob("assets/packed_*"))
        weights = assets + packing.scale_bytes(sparse, values)
        yield Row(f"SavedModel, {values}", _size(packed), weights, memory, TENSORFLOW)


def _tflite(dense, representative):
    """TFLite files; if there is none in float32, there is none at all."""
    for values in packing.VALUES if representative is not None else packing.VALUES[:-1]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plain, sparse, _ = tflite.contents(str(dense), values, representative)
        except tflite.WrongExamples:
            raise
        except Exception as error:  # whatever the converter or the interpreter makes of the model
            yield Row(f"TFLite, {values}", None, None, None, f"there is none: {_reason(error)}")
            if values == "float32":
                return
        else:
            if values == "float32":
                yield Row("TFLite, dense", len(plain), None, None, TFLITE)
            yield Row(f"TFLite, {values}", len(sparse), None, None, TFLITE)


def _reason(error):
    """The first line of a message, without the place in the graph that the converter puts before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rsplit("): ", 1)[-1]


def _size(directory):
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


def _number(value):
    return "-" if value is None else f"{value:,}"


def _times(before, after):
    return f"{before / after:.1f}" if before and after else "-"
