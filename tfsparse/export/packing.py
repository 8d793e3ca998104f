"""Arrays with many zeros as small files, in NumPy.

    file = gzip(bits | bytes)
    bits:  one per entry, 1 where the entry is not zero
    bytes: of these entries, all first bytes, then all second bytes, ...

The first entry has the highest bit of the first byte. An entry is zero if all its bits are zero, so -0.0, NaN and
infinities are kept. The bytes of floats are grouped because sign and exponent are similar in all of them, and gzip
compresses similar neighbours.
"""

import abc
import math
import zlib
from collections.abc import Iterable

import numpy as np

ENTRIES_PER_FILE = 2**26  # TensorFlow decompresses at most 2 GB in one piece
GRAPH_BYTES = 3_500  # by which the graph of a SavedModel grows for each packed variable
MAX_SIZE_RATIO = 0.75  # a weight is packed if its files take less than this fraction of its bytes; dense ones take 0.9
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)  # best for masks without a pattern, and with one
_GZIP = 31  # zlib's number for a gzip header without a date
_FLOATS = "fV"  # kinds of dtypes; bfloat16 is a V


class ValueType(abc.ABC):
    """How the non-zero entries of packed weights are stored.

    `export(model, path, values=...)` accepts the name of a subclass once `register_value_type` has registered it. It is
    used for weights of float32 and float64; weights of other dtypes are stored as they are.

    Attributes:
        name: What a user writes for `values`.
    """

    name: str

    @abc.abstractmethod
    def store(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the array to be packed, and what its entries are multiplied with when they are loaded.

        Args:
            array: A weight of float32 or float64.

        Returns:
            An array of the same shape, with zeros where `array` has zeros; and a scale that broadcasts to that shape,
            or None for 1.
        """

    def scale_bytes(self, array: np.ndarray) -> int:
        """Return the bytes of the scale of a weight, computed from its shape and dtype alone."""
        return 0


value_types: dict[str, ValueType] = {}


def register_value_type(cls: type[ValueType]) -> type[ValueType]:
    """Make a `ValueType` known to `export(values=...)` and `sizes`; a decorator.

    Args:
        cls: The class. It is created once, without arguments.

    Returns:
        `cls`.
    """
    value_types[cls.name] = cls()
    return cls


@register_value_type
class Float32(ValueType):
    """Entries as they are."""

    name = "float32"

    def store(self, array):
        return array, None


@register_value_type
class Float16(ValueType):
    """Entries rounded to 11 significant bits."""

    name = "float16"

    def store(self, array):
        _check_range(array, np.finfo(np.float16).max, self.name)
        return array.astype(np.float16), None


@register_value_type
class Int8(ValueType):
    """Entries rounded to 255 steps, with a scale for each output channel: `scale = max |array| / 127`."""

    name = "int8"

    def store(self, array):
        _check_range(array, np.finfo(array.dtype).max, self.name)
        largest = np.max(np.abs(array), axis=_axes_of_a_scale(array.shape), keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(array.dtype)
        return np.rint(array / scale).astype(np.int8), scale

    def scale_bytes(self, array):
        return array.nbytes // math.prod(array.shape[axis] for axis in _axes_of_a_scale(array.shape))


def stored(array: np.ndarray, values: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the array to be packed, and what its entries are multiplied with when they are loaded (None for 1).

    Arrays of other dtypes than float32 and float64 are returned as they are.

    Args:
        array: A weight.
        values: Name of a registered `ValueType`.

    Returns:
        The array and the scale.

    Raises:
        ValueError: If the type cannot hold a number of the array.

    Examples:
        >>> stored(np.array([[0.0, -254.0], [1.0, 100.0]], "float32"), "int8")
        (array([[   0, -127], [ 127,   50]], dtype=int8), array([[0.00787402, 2.        ]], dtype=float32))
    """
    return value_types[values].store(array) if _has_value_type(array) else (array, None)


def scale_bytes(arrays: Iterable[np.ndarray], values: str) -> int:
    """Return the bytes of the scales of these arrays. They are stored in the graph, not in the files."""
    return sum(value_types[values].scale_bytes(a) for a in arrays if _has_value_type(a))


def sparse_parts(array: np.ndarray) -> list[bytes] | None:
    """Return the files of a sparse array with its entries as they are; None if packing does not pay for this array.

    Packing pays for floats of rank >= 2 whose files take less than 75 % of their bytes, and save more than the graph
    grows.
    """
    if array.ndim < 2 or array.nbytes <= GRAPH_BYTES or array.dtype.kind not in _FLOATS:
        return None
    files = [encode(piece) for piece in pieces(array)]
    size = sum(map(len, files))
    return files if size < MAX_SIZE_RATIO * array.nbytes and size + GRAPH_BYTES < array.nbytes else None


def pieces(array: np.ndarray) -> list[np.ndarray]:
    """Return the entries of an array in C order, cut into arrays that are small enough for one file."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return [flat[start : start + ENTRIES_PER_FILE] for start in range(0, flat.size, ENTRIES_PER_FILE)]


def encode(array: np.ndarray) -> bytes:
    """Return the content of one file.

    Examples:
        >>> gzip.decompress(encode(np.array([0, 0, 1.5], "float32"))).hex()
        '200000c03f'
    """
    content = bits_and_bytes(array)
    return min((_gzipped(content, strategy) for strategy in _STRATEGIES), key=len)


def bits_and_bytes(array: np.ndarray) -> bytes:
    """Return the content of a file before it is compressed."""
    rows = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
    is_nonzero = rows.any(axis=1)
    return np.packbits(is_nonzero).tobytes() + np.ascontiguousarray(rows[is_nonzero].T).tobytes()


def _gzipped(content, strategy):
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP, strategy=strategy)
    return compressor.compress(content) + compressor.flush()


def _has_value_type(array):
    return array.dtype in (np.float32, np.float64)


def _check_range(array, limit, values):
    if not np.all(np.abs(array) <= limit):
        raise ValueError(f'values="{values}" cannot hold NaN, infinities or |weight| > {limit:.3g}: use "float32".')


def _axes_of_a_scale(shape) -> tuple[int, ...]:
    """Return the axes over which entries share a scale: all but the last one that is longer than 1.

    For a depthwise kernel (height, width, channels, 1) these are all but the third.
    """
    channels = max((axis for axis, length in enumerate(shape) if length > 1), default=0)
    return tuple(axis for axis in range(len(shape)) if axis != channels)
