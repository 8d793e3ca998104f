"""Keys: floats that are compared by their bits.

Floats >= 0 have the same order as the integers with the same bits. So a key can be searched bit by bit.

On GPUs TensorFlow copies int32 tensors to the host to compare, sum, pad or reshape them, and where they enter or leave
a branch. So keys are kept as floats, whose bits are read as integers where needed.
"""

from keras import ops

from tfsparse.backend import ops as backend_ops

NUM_BITS = 31  # the sign bit is always 0
MAX_INT = 2**31 - 1


def keys(scores):
    """Return flat float32 keys whose bits, read as integers, are >= 0 and have the order of the scores, all >= 0."""
    return ops.reshape(ops.abs(ops.cast(scores, "float32")), (-1,))  # abs: of -0.0 the bits are those of 0.0


def nonnegative(scores) -> list:
    """Return float32 tensors >= 0 that have the order of the scores, which may have any sign."""
    floats = [ops.cast(s, "float32") for s in scores]
    smallest = ops.stack([ops.min(ops.cast(bits(f), "float32")) for f in floats])
    return backend_ops.cond(ops.any(smallest < 0), lambda: [*map(ordered, floats)], lambda: floats)


def ordered(values):
    """Return a float32 tensor > 0 in the order of float32 values of any sign; neighbouring floats tie."""
    ordered = ops.where(values == 0, 0, bits(values))  # -0.0 ties with 0.0
    ordered = ops.bitwise_xor(ordered, ops.bitwise_and(ops.right_shift(ordered, 31), MAX_INT))
    return of_integers(ops.bitwise_and(ops.bitwise_xor(ops.right_shift(ordered, 1), 1 << 30), MAX_INT))  # + 2**30


def bits(keys):
    """Return the bits of keys as int32."""
    return backend_ops.view(keys, "int32")


def of_integers(integers):
    """Return keys with the bits of integers >= 0."""
    return backend_ops.view(ops.cast(integers, "int32"), "float32")


def integers(keys):
    """Return keys as integers that are compared where they are."""
    return ops.cast(bits(keys), backend_ops.device_int())


def places(like, mask=None):
    """Return for each entry of a flat tensor its place among ties; those with a lower place are pruned first.

        0, 1, ...  from the last to the first entry;  entries with mask == 0 before all others

    Args:
        like: Flat tensor of at most 2**30 entries.
        mask: Flat tensor of the same length. Default: None, all entries were kept.

    Returns:
        Integers that are compared where they are.
    """
    dtype = backend_ops.device_int()
    size = ops.cast(ops.size(like), dtype)
    from_last = size - 1 - backend_ops.indices(like, dtype)
    return from_last if mask is None else ops.where(mask > 0, from_last + size, from_last)
