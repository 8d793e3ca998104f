"""Weights of TFLite files as sparse tensors, in NumPy.

    where each row begins | the columns of blocks that are not empty | their entries

A block is `width` entries that follow one another on the last axis: four inputs of one output, say; with a width of 1,
an entry. A row is all that shares the other axes. The format is TFLite's own (`SparsityParameters` in its schema):
dense axes, a compressed one, and the block.
"""

import dataclasses

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

WIDTHS = (1, 4, 16)
_INTEGERS = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """An array without its empty blocks."""

    shape: tuple[int, ...]
    width: int
    segments: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """What it takes in a file."""
        return self.segments.nbytes + self.columns.nbytes + self.values.nbytes


def encode(array: np.ndarray, width: int = 1) -> Encoded:
    """The blocks of an array in which an entry is not zero; `width` divides the last axis.

    >>> e = encode(np.array([[0, 0, 0, 0], [0, 0, 1, 2]]), width=2)
    >>> e.segments, e.columns, e.values
    (array([0, 0, 1], dtype=uint8), array([1], dtype=uint8), array([1, 2]))
    """
    blocks = array.reshape(-1, array.shape[-1] // width, width)
    alive = blocks.any(axis=2)
    segments = np.concatenate([[0], np.cumsum(alive.sum(axis=1))])
    return Encoded(array.shape, width, _smallest(segments), _smallest(alive.nonzero()[1]), blocks[alive].reshape(-1))


def smallest(array: np.ndarray) -> Encoded:
    """The encoding that takes the fewest bytes."""
    widths = (width for width in WIDTHS if array.shape[-1] % width == 0)
    return min((encode(array, width) for width in widths), key=lambda encoded: encoded.nbytes)


def empty_blocks(array: np.ndarray, width: int) -> float:
    """The share of blocks without an entry that is not zero; 0 if blocks of this width do not fit."""
    if array.size == 0 or array.shape[-1] % width:
        return 0.0
    return 1 - float(np.mean(array.reshape(-1, width).any(axis=1)))


def parameters(encoded: Encoded) -> schema.SparsityParametersT:
    """How a file tells the runtime of it."""
    last = len(encoded.shape) - 1
    block = [encoded.width] if encoded.width > 1 else []
    result = schema.SparsityParametersT()
    result.traversalOrder = np.arange(last + 1 + len(block), dtype=np.int32)
    result.blockMap = np.array([last] * len(block), np.int32)
    result.dimMetadata = [*map(_dense, encoded.shape[:-1]), _compressed(encoded), *map(_dense, block)]
    return result


def index_bytes(sparsity: schema.SparsityParametersT | None) -> int:
    """What the places of blocks take in a file; 0 for a dense tensor."""
    metadata = [] if sparsity is None else sparsity.dimMetadata
    vectors = [v for m in metadata for v in (m.arraySegments, m.arrayIndices) if v is not None]
    return sum(v.values.nbytes for v in vectors)


def decode(values: np.ndarray, shape, sparsity: schema.SparsityParametersT) -> np.ndarray:
    """The dense array of a tensor in the form that `parameters` writes; TFLite's converter writes it too.

    Raises: ValueError for another form.
    """
    *rows, compressed = sparsity.dimMetadata[: len(shape)]
    block = sparsity.dimMetadata[len(shape) :]
    dense, csr = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
    if compressed.format != csr or any(m.format != dense for m in (*rows, *block)):
        raise ValueError("a sparse tensor whose compressed axis is not the last one: tfsparse does not write such.")
    segments, columns = compressed.arraySegments.values, compressed.arrayIndices.values
    width = block[0].denseSize if block else 1
    row = np.repeat(np.arange(len(segments) - 1), np.diff(segments.astype(np.int64)))
    array = np.zeros((len(segments) - 1, shape[-1] // width, width), values.dtype)
    array[row, columns] = values.reshape(-1, width)
    return array.reshape(shape)


def _dense(size):
    metadata = schema.DimensionMetadataT()
    metadata.format, metadata.denseSize = schema.DimensionType.DENSE, int(size)
    return metadata


def _compressed(encoded):
    metadata = schema.DimensionMetadataT()
    metadata.format = schema.DimensionType.SPARSE_CSR
    metadata.arraySegmentsType, metadata.arraySegments = _vector(encoded.segments)
    metadata.arrayIndicesType, metadata.arrayIndices = _vector(encoded.columns)
    return metadata


def _vector(integers):
    """TFLite's number for the type of a vector, and the vector."""
    number, kind = next((number, kind) for dtype, number, kind in _INTEGERS if integers.dtype == dtype)
    vector = kind()
    vector.values = integers
    return number, vector


def _smallest(integers):
    """In the first type that holds them all."""
    largest = int(integers.max(initial=0))
    return integers.astype(next(dtype for dtype, *_ in _INTEGERS if largest <= np.iinfo(dtype).max))
