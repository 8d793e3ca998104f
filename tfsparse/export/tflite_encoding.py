"""Sparse tensors as TFLite files store them, in NumPy.

    where each row begins | the columns of the blocks that are not empty | their entries

A block is `width` consecutive entries on the last axis, for example four inputs of one output; with a width of 1 it is
one entry. A row is all entries with the same position on the other axes. `tflite_schema` writes this to a file.
"""

import dataclasses

import numpy as np

WIDTHS = (1, 4, 16)
INDEX_TYPES = (np.uint8, np.uint16, np.int32)  # those that TFLite's schema has


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
        """Bytes in a file."""
        return self.segments.nbytes + self.columns.nbytes + self.values.nbytes


def encode(array: np.ndarray, width: int = 1) -> Encoded:
    """Return the blocks of an array that have an entry other than zero.

    Args:
        array: A dense array.
        width: Entries per block. It divides the length of the last axis. Default: 1.

    Returns:
        The encoded array.

    Examples:
        >>> e = encode(np.array([[0, 0, 0, 0], [0, 0, 1, 2]]), width=2)
        >>> e.segments, e.columns, e.values
        (array([0, 0, 1], dtype=uint8), array([1], dtype=uint8), array([1, 2]))
    """
    blocks = array.reshape(-1, array.shape[-1] // width, width)
    is_stored = blocks.any(axis=2)
    segments = np.concatenate([[0], np.cumsum(is_stored.sum(axis=1))])
    columns = is_stored.nonzero()[1]
    return Encoded(array.shape, width, _smallest_type(segments), _smallest_type(columns), blocks[is_stored].reshape(-1))


def smallest(array: np.ndarray) -> Encoded:
    """Return the encoding that takes the fewest bytes."""
    widths = (width for width in WIDTHS if array.shape[-1] % width == 0)
    return min((encode(array, width) for width in widths), key=lambda encoded: encoded.nbytes)


def empty_blocks(array: np.ndarray, width: int) -> float:
    """Return the fraction of blocks whose entries are all zero; 0 if blocks of this width do not fit."""
    if array.size == 0 or array.shape[-1] % width:
        return 0.0
    return 1 - float(np.mean(array.reshape(-1, width).any(axis=1)))


def _smallest_type(integers):
    largest = int(integers.max(initial=0))
    return integers.astype(next(dtype for dtype in INDEX_TYPES if largest <= np.iinfo(dtype).max))
