"""Random numbers from a hash of 32 bits.

The random number generators of the backends keep a state, and XLA gives other numbers. A hash has no state: it gives
the same numbers on TensorFlow and JAX, compiled or not, on every replica and after a resume.
"""

import math

from keras import ops

from tfsparse.backend.ops import device_int


def mix32(x):
    """Return a hash of 32 bits of each entry. Different entries have different hashes; the hash of 0 is 0.

    Args:
        x: An uint32 tensor of any shape.

    Returns:
        An uint32 tensor of the same shape.

    Source:
        Wellons, "Prospecting for Hash Functions" (2018), `lowbias32`.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ops.bitwise_xor(x, ops.right_shift(x, ops.cast(shift, "uint32"))) * ops.cast(factor, "uint32")
    return x


def hash_uniform(shape: tuple, seed: int, index: int, step=0):
    """Return float32 numbers that are uniform in [1/2, 1).

    Args:
        shape: Shape of the result.
        seed: An int.
        index: Position of the weight among those that are pruned, so that two weights get different numbers.
        step: Training step, an int or an integer tensor, so that each update gets different numbers. Default: 0.

    Returns:
        A float32 tensor of the shape `shape`.
    """
    entries = ops.arange(math.prod(shape), dtype=device_int())
    key = ops.cast((1_000_003 * seed + 7919 * index + 1) % 2**32, "uint32") + mix32(ops.cast(step, "uint32"))
    bits = mix32(ops.cast(entries, "uint32") + key)
    uniform = ops.cast(ops.right_shift(bits, ops.cast(9, "uint32")), "float32") * 2.0**-24
    return ops.reshape(uniform + 0.5, shape)


def hash_signs(shape: tuple, seed, index, first: int = 0, dtype: str = "float32"):
    """Return numbers that are -1 or 1 with equal probability.

    Args:
        shape: Shape of the result.
        seed: An int or an integer tensor.
        index: Number of the random vector, an int or an integer tensor.
        first: Position of the tensor's first entry among all entries of the vector. Default: 0.
        dtype: dtype of the result. Default: "float32".

    Returns:
        A tensor of the shape `shape`.
    """
    key = mix32(mix32(ops.cast(seed, "uint32")) + ops.cast(index, "uint32"))
    entries = ops.cast(ops.arange(math.prod(shape), dtype=device_int()), "uint32") + ops.cast(first, "uint32")
    bits = ops.right_shift(mix32(ops.bitwise_xor(mix32(entries), key)), ops.cast(31, "uint32"))
    return ops.reshape(1 - 2 * ops.cast(bits, dtype), shape)
