"""Which weights TFLite stores sparse, which it runs sparse, and when that is faster.

`export_tflite`, `inspect_tflite`, `doctor` and `plan` all use these rules. TFLite has one sparse kernel that is faster
and correct: fully connected, float32, blocks of (1, 4). For all others an operation DENSIFY unpacks a sparse weight
once, when the interpreter is made: the file is smaller, speed and memory are those of a dense weight.

Measured: docs/tflite.md. Arrays have TFLite's axes: inputs last, or channels last for depthwise kernels.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from tfsparse.export import tflite_encoding as encoding

# ---- stored and run sparse -------------------------------------------------------------------------------------------

BLOCK = 4  # consecutive inputs of one output, in the sparse kernel
GRANULARITY = (1, BLOCK)  # the granularity that prunes such blocks
KERNEL_MIN_SPARSITY = 0.75  # fraction of empty blocks from which large layers gain and small ones lose little
MAX_SIZE_RATIO = 0.8  # other weights are stored sparse if they take less than this fraction of the dense bytes
DENSIFY_BYTES = 600  # by which a file grows for each DENSIFY
SCALE_BYTES = 12  # by which it grows for each scale of an int8 weight, since DENSIFY's output has the scales too
UNPACKED_OPERATIONS = {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}
NO_BLOCKS = "zeros do not stand in blocks"

# ---- faster on x86 ---------------------------------------------------------------------------------------------------

SMALL_LAYER = 256 * 256  # entries; a smaller layer takes next to no time
CACHE_BYTES = 2 * 2**20  # L2 cache of the machine that docs/tflite.md was measured on
CACHED_MIN_SPARSITY = 0.85  # from which the sparse kernel is faster although the dense weights fit into the cache

# ---- XNNPACK on Arm --------------------------------------------------------------------------------------------------

POINTWISE_MIN_SPARSITY = 2 / 3  # over all 1x1 convolutions of a network


@dataclasses.dataclass(frozen=True)
class Form:
    """How a weight is stored in a file: `encoded` is None if dense; `runs_sparse` if the sparse kernel reads it."""

    encoded: encoding.Encoded | None = None
    runs_sparse: bool = False


def choose_form(array: np.ndarray, operations: Collection[str], num_scales: int = 0) -> Form:
    """Return the form in which `export_tflite` stores a weight.

    Args:
        array: The dense values.
        operations: TFLite's names of the operations that use the array as their weights; empty if there are others.
        num_scales: Number of the quantisation scales of an int8 weight. Default: 0.

    Returns:
        The form.
    """
    if has_kernel(array, operations) and not kernel_obstacle(array):
        return Form(encoding.encode(array, BLOCK), runs_sparse=True)
    if array.size and _can_unpack(array, operations):
        encoded = encoding.smallest(array)
        if encoded.nbytes + DENSIFY_BYTES + SCALE_BYTES * num_scales < MAX_SIZE_RATIO * array.nbytes:
            return Form(encoded)
    return Form()


def has_kernel(array: np.ndarray, operations: Collection[str]) -> bool:
    """Return whether TFLite has a sparse kernel for an array of this dtype in these operations."""
    return array.dtype == np.float32 and set(operations) == {"FULLY_CONNECTED"}


def kernel_obstacle(array: np.ndarray) -> str:
    """Return why the sparse kernel is not used for a float32 weight of a Dense layer; "" if it is used."""
    if array.shape[-1] % BLOCK:
        return f"the sparse kernel takes multiples of {BLOCK} inputs, and here are {array.shape[-1]}"
    if np.sum(array == 0) < KERNEL_MIN_SPARSITY * array.size:
        return f"the sparse kernel is taken from {KERNEL_MIN_SPARSITY:.0%} zeros on"
    return "" if encoding.empty_blocks(array, BLOCK) >= KERNEL_MIN_SPARSITY else NO_BLOCKS


def speed_obstacle(size: int, sparsity: float, network_bytes: int) -> str:
    """Return why a weight that runs sparse on x86 is hardly faster; "" if it is faster.

    Args:
        size: Number of its entries.
        sparsity: Its fraction of zeros.
        network_bytes: Bytes of all weights of the network when dense.

    Returns:
        The reason.
    """
    if size < SMALL_LAYER:
        return "runs sparse, but has few entries"
    if network_bytes < CACHE_BYTES and sparsity < CACHED_MIN_SPARSITY:
        return f"runs sparse; networks below {CACHE_BYTES >> 20} MiB gain from {CACHED_MIN_SPARSITY:.0%} zeros on"
    return ""


def _can_unpack(array, operations):
    """Return whether DENSIFY may precede these operations.

    XNNPACK does not run transposed convolutions with an open batch size. TFLite's own kernel for them returns NaN if a
    float16 weight was unpacked.
    """
    excluded = {"TRANSPOSE_CONV"} if array.dtype == np.float16 else set()
    return bool(operations) and set(operations) <= UNPACKED_OPERATIONS - excluded
