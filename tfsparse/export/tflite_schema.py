"""Sparse tensors in the schema of TFLite files: dense axes, then a compressed axis, then the block."""

import math

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tfsparse.export.tflite_encoding import Encoded

MAX_BYTES = 2**31  # of a file, and so of a weight before it became sparse


def parameters(encoded: Encoded) -> schema.SparsityParametersT:
    """Return what a file says about the form of a sparse tensor."""
    last = len(encoded.shape) - 1
    block = [encoded.width] if encoded.width > 1 else []
    result = schema.SparsityParametersT()
    result.traversalOrder = np.arange(last + 1 + len(block), dtype=np.int32)
    result.blockMap = np.array([last] * len(block), np.int32)
    result.dimMetadata = [*map(_dense, encoded.shape[:-1]), _compressed(encoded), *map(_dense, block)]
    return result


def index_bytes(sparsity: schema.SparsityParametersT | None) -> int:
    """Return the bytes that the positions of blocks take in a file; 0 for a dense tensor."""
    metadata = [] if sparsity is None else sparsity.dimMetadata
    vectors = [v for m in metadata for v in (m.arraySegments, m.arrayIndices) if v is not None]
    return sum(v.values.nbytes for v in vectors)


def decode(values: np.ndarray, shape, sparsity: schema.SparsityParametersT) -> np.ndarray:
    """Return the dense array of a sparse tensor.

    Args:
        values: The stored entries.
        shape: Shape of the tensor.
        sparsity: Its form, as `parameters` and TFLite's converter write it.

    Returns:
        An array of the shape `shape`.

    Raises:
        ValueError: If the form is another one, or if its sizes contradict each other.
    """
    *rows, compressed = sparsity.dimMetadata[: len(shape)]
    block = sparsity.dimMetadata[len(shape) :]
    dense, csr = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
    is_known = list(sparsity.traversalOrder) == list(range(len(shape) + len(block))) and len(block) <= 1
    if not is_known or compressed.format != csr or any(m.format != dense for m in (*rows, *block)):
        raise ValueError("Cannot read a sparse tensor whose compressed axis is not the last one.")
    segments, columns = compressed.arraySegments.values, compressed.arrayIndices.values
    counts, width = np.diff(segments.astype(np.int64)), block[0].denseSize if block else 1
    _check_sizes(shape, [m.denseSize for m in rows], width, counts, columns, len(values))
    if math.prod(shape) * values.itemsize > MAX_BYTES:
        raise ValueError(f"the sparse tensor of shape {shape} has more than {MAX_BYTES:,} bytes")
    array = np.zeros((len(counts), shape[-1] // width, width), values.dtype)
    array[np.repeat(np.arange(len(counts)), counts), columns] = values.reshape(-1, width)
    return array.reshape(shape)


def _check_sizes(shape, rows, width, counts, columns, num_values):
    """Check that the axes, the blocks of each row and their columns agree, before memory for the array is taken."""
    axes = rows == list(shape[:-1]) and len(counts) == math.prod(rows) and width > 0 and shape[-1] % width == 0
    blocks = axes and counts.min(initial=0) >= 0 and width * len(columns) == num_values
    if not (blocks and columns.min(initial=0) >= 0 and columns.max(initial=0) < max(shape[-1] // width, 1)):
        raise ValueError(f"the sizes in the sparse tensor of shape {shape} contradict each other")


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
    """Return the schema's number for the type of a vector, and the vector."""
    name = f"{integers.dtype.name.capitalize()}Vector"
    vector = getattr(schema, f"{name}T")()
    vector.values = integers
    return getattr(schema.SparseIndexVector, name), vector
