"""Arrays with many zeros as few bytes, in NumPy.

    file = gzip(a bit per entry, 1 where it is not zero | the first bytes of all others, their second bytes, ...)

The first entry has the highest bit of the first byte. Zero means all bits zero, so that -0.0, NaN and infinities come
back as they were. Equal bytes of floats are alike (sign and exponent), so gzip finds more if they stand together.
"""

import math
import zlib
from collections.abc import Iterable

import numpy as np

ENTRIES_PER_FILE = 2**26  # TensorFlow decompresses at most 2 GB in one piece
OVERHEAD = 3_500  # bytes by which the graph of a SavedModel grows for each packed variable
GAIN = 0.75  # packed if it takes less than this share of its bytes: a dense one would gain a tenth
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)  # best for masks without a pattern, and with one
_GZIP = 31  # zlib's number for gzip's header, without a date
_FLOATS = "fV"  # kinds of dtypes; bfloat16 is a V
VALUES = ("float32", "float16", "int8")


def sparse_parts(array: np.ndarray) -> list[bytes] | None:
    """The files of an array of floats if it is sparse: smaller in them by enough, measured with its numbers as they
    are."""
    if array.ndim < 2 or array.nbytes <= OVERHEAD or array.dtype.kind not in _FLOATS:
        return None
    files = [encode(piece) for piece in pieces(array)]
    size = sum(map(len, files))
    return files if size < GAIN * array.nbytes and size + OVERHEAD < array.nbytes else None


def pieces(array: np.ndarray) -> list[np.ndarray]:
    """The entries of an array in their order, as many at a time as go into one file."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return [flat[start : start + ENTRIES_PER_FILE] for start in range(0, flat.size, ENTRIES_PER_FILE)]


def encode(array: np.ndarray) -> bytes:
    """One file.

    >>> gzip.decompress(encode(np.array([0, 0, 1.5], "float32"))).hex()
    '200000c03f'
    """
    content = bits_and_bytes(array)
    return min((_gzipped(content, strategy) for strategy in _STRATEGIES), key=len)


def _gzipped(content, strategy):
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP, strategy=strategy)
    return compressor.compress(content) + compressor.flush()


def bits_and_bytes(array: np.ndarray) -> bytes:
    """The content of a file before it is compressed."""
    rows = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
    alive = rows.any(axis=1)
    return np.packbits(alive).tobytes() + np.ascontiguousarray(rows[alive].T).tobytes()


def stored(array: np.ndarray, values: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The array to be packed and the scale that its entries are multiplied with after unpacking, None for 1.

        float16:  round(array)
        int8:     round(array / scale),  scale = max |array| / 127 of each output channel

    Zeros stay zero. Arrays of other dtypes than float32 and float64 stay as they are.

    Raises: ValueError for numbers that float16 or int8 cannot hold.

    >>> stored(np.array([[0.0, -254.0], [1.0, 100.0]], "float32"), "int8")
    (array([[   0, -127], [ 127,   50]], dtype=int8), array([[0.00787402, 2.        ]], dtype=float32))
    """
    if not _is_rounded(array, values):
        return array, None
    limit = np.finfo(np.float16).max if values == "float16" else np.finfo(array.dtype).max
    if not np.all(np.abs(array) <= limit):
        raise ValueError(f'values="{values}" cannot hold NaN, infinities or |weight| > {limit:.3g}: use "float32".')
    if values == "float16":
        return array.astype(np.float16), None
    largest = np.max(np.abs(array), axis=_all_but_channels(array.shape), keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(array.dtype)
    return np.rint(array / scale).astype(np.int8), scale


def scale_bytes(arrays: Iterable[np.ndarray], values: str) -> int:
    """Bytes of the scales of these arrays, which lie in the graph, beside the files."""
    scaled = [a for a in arrays if values == "int8" and _is_rounded(a, values)]
    return sum(a.nbytes // math.prod(a.shape[axis] for axis in _all_but_channels(a.shape)) for a in scaled)


def _is_rounded(array, values):
    return values != "float32" and array.dtype in (np.float32, np.float64)


def _all_but_channels(shape) -> tuple[int, ...]:
    """The axes over which entries share a scale; of a depthwise kernel (height, width, channels, 1) the first two."""
    channels = max((axis for axis, length in enumerate(shape) if length > 1), default=0)
    return tuple(axis for axis in range(len(shape)) if axis != channels)
