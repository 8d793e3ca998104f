"""What a model takes: on disk in each form, and in memory."""

import dataclasses
import gzip
import json
import pathlib
import tempfile

import keras
import numpy as np

from tfsparse.export import packing
from tfsparse.export.saved_model import export
from tfsparse.printing import Printed

CODE, UNPACKING, TENSORFLOW = "code", "code, unpacking", "TensorFlow"


@dataclasses.dataclass(frozen=True)
class Row:
    """One form of a model: bytes of all of it, and of its sparse weights alone (None where they cannot be told apart);
    bytes of all weights in memory; and what must happen or be there to run it."""

    form: str
    bytes: int
    sparse_bytes: int | None
    memory: int
    needs: str


@dataclasses.dataclass(frozen=True)
class Sizes(Printed):
    """Rows of a model, the dense weights first; prints itself as a table.

    >>> sizes = tfsparse.sizes(model); print(sizes); sizes.as_dict()["rows"]
    """

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
            whole = (f"{r.bytes:,}", _times(raw.bytes, r.bytes))
            sparse = (_number(r.sparse_bytes), _times(raw.sparse_bytes, r.sparse_bytes))
            table.add_row(r.form, *whole, *sparse, f"{r.memory:,}", r.needs)
        table.caption = "bytes: of all weights, of a SavedModel of the whole directory; in memory: all weights, dense"
        return table


def sizes(model: keras.Model) -> Sizes:
    """Measure a model in every form in which it can be kept.

        raw weights     the bytes of all weights; in the next rows only the sparse ones take another form
        gzip            compressed as they are
        bitmask         a bit per weight, and the bytes of those that are not zero
        packed          the files that `tfsparse.export` makes of them, with each of its `values`
        SavedModel      the whole directories that `tfsparse.export` writes

    Sparse weights are those that `export` packs. However they lie on disk, TensorFlow computes with dense ones.
    Directories are written to a temporary place and measured there.

    Args: model: as for `tfsparse.export`.

    Raises: as `tfsparse.export`.

    >>> print(tfsparse.sizes(model))
    """
    from tfsparse.export import rewriting  # late: it imports TensorFlow

    with tempfile.TemporaryDirectory() as folder:
        dense = export(model, pathlib.Path(folder) / "dense", dense=True)
        weights = rewriting.weights(dense)
        sparse = [a for a in weights if packing.sparse_parts(a) is not None]
        memory = sum(a.nbytes for a in weights)
        rows = (*_weights(sparse, memory), *_saved_models(dense, memory))
    entries = sum(a.size for a in sparse)
    living = sum(int(np.count_nonzero(a)) for a in sparse)
    return Sizes(model.name, 1 - living / entries if entries else 0.0, rows)


def _weights(sparse, memory):
    """The weights alone."""
    rest = memory - sum(a.nbytes for a in sparse)
    forms = {
        "raw weights": lambda a: a.nbytes,
        "gzip": lambda a: len(gzip.compress(a.tobytes(), 9)),
        "bitmask": lambda a: len(packing.bits_and_bytes(a)),
    }
    forms |= {f"packed, {v}": lambda a, v=v: _packed(a, v) for v in packing.VALUES}
    for form, measure in forms.items():
        size = sum(map(measure, sparse))
        yield Row(form, size + rest, size, memory, CODE if form == "raw weights" else UNPACKING)


def _packed(array, values):
    """Bytes of the files, and of the scales of int8."""
    stored, scale = packing.stored(array, values)
    files = sum(len(packing.encode(piece)) for piece in packing.pieces(stored))
    return files + (0 if scale is None else scale.nbytes)


def _saved_models(dense, memory):
    """Directories that TensorFlow serves as they are."""
    yield Row("SavedModel, dense", _size(dense), None, memory, TENSORFLOW)
    for values in packing.VALUES:
        packed = export(dense, dense.parent / values, values)
        assets = sum(f.stat().st_size for f in packed.glob("assets/packed_*"))
        yield Row(f"SavedModel, {values}", _size(packed), assets, memory, TENSORFLOW)


def _size(directory):
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


def _number(value):
    return "-" if value is None else f"{value:,}"


def _times(before, after):
    return f"{before / after:.1f}" if before and after else "-"
