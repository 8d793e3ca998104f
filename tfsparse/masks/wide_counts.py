"""Counts of more than 31 bits, in int32: JAX has no larger integers by default.

    count = high * 2**16 + low,  0 <= low < 2**16
"""

import numbers

import numpy as np
from keras import ops

_MAX_INT = 2**31 - 1


def as_vector(counts):
    """Return an int32 tensor of a sequence of numbers and scalar tensors; None counts as 0. A tensor stays as it is."""
    if isinstance(counts, (list, tuple)) and not all(isinstance(n, numbers.Integral) for n in counts):
        return ops.stack([ops.cast(0 if n is None else n, "int32") for n in counts])
    return ops.cast(counts, "int32")


def terms(count):
    """Return an int32 tensor of numbers whose sum is a count.

    Args:
        count: An int of any size, or a tensor or sequence of numbers whose sum is meant.
    """
    if isinstance(count, numbers.Integral):
        whole, rest = divmod(int(count), _MAX_INT)
        return ops.convert_to_tensor(np.array([_MAX_INT] * whole + [rest], "int32"))
    return ops.reshape(as_vector(count), (-1,))


def add(terms, high=0, low=0):
    """Return the sums of int32 tensors along the first axis and of a wide count, as wide counts."""
    high = high + ops.sum(ops.right_shift(terms, 16), axis=0)
    return carried(high, low + ops.sum(ops.bitwise_and(terms, 0xFFFF), axis=0))


def carried(high, low):
    """Return the same count with 0 <= low < 2**16."""
    return high + ops.right_shift(low, 16), ops.bitwise_and(low, 0xFFFF)


def sums_after(values):
    """Return for each entry of an int32 tensor the sum of those that follow, as wide counts."""
    return carried(*(ops.sum(n) - ops.cumsum(n) for n in carried(0, values)))


def narrow(high, low):
    """Return the count as int32, at least 0 and at most the largest one."""
    inside = ops.bitwise_or(ops.left_shift(ops.clip(high, 0, 0x7FFF), 16), low)
    return ops.where(high < 0, 0, ops.where(high < 1 << 15, inside, _MAX_INT))
