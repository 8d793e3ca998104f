"""The search for a threshold with histograms: TensorFlow's own kernels do it fastest.

    for the next bits of the keys, from the highest to the lowest:
        counts    = histogram of these bits, of the keys that begin with the bits of the threshold found so far
        threshold = the last continuation with at most as many keys below it as are pruned
"""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import sort_keys

_TWO_LEVELS, _THREE_LEVELS = (15, 16), (11, 10, 10)  # bits of each histogram


def common_threshold(scores, fits):
    """Return the largest threshold for which `fits` is true of the numbers of keys below it.

    Args:
        scores: Sequence of tensors, >= 0. An item may be computed when it is asked for.
        fits: `int32 tensor with a row per tensor and a column per candidate -> bool per candidate`.

    Returns:
        The threshold, an int32 tensor; for each tensor the number of keys below it, and at it.
    """

    def count(*place):
        function = backend_ops.traced_for_all_lengths(_histogram, *place[:2])
        return list(backend_ops.in_turn(function(place[2], sort_keys.keys(s)) for s in scores))

    return _search(_THREE_LEVELS, count, fits)


def kept(size: int):
    """Return the function that says which entries of a tensor of this size are kept.

    Returns:
        `(keys, [count, threshold, below, has_own], mask=None) -> uint8 tensor`. `count` keys are pruned, those below
        the threshold, which are `below` keys, and ties; if `has_own` is 1, the tensor has a threshold of its own.
    """
    levels = _TWO_LEVELS if size > 1 << max(_TWO_LEVELS) else _THREE_LEVELS
    return backend_ops.traced_for_all_lengths(_kept_within, levels)


def _kept_within(levels, keys, numbers, mask=None):
    count, threshold, below, has_own = ops.unstack(numbers, 4)
    threshold, below = backend_ops.cond(
        has_own > 0, lambda: _threshold_of_one(levels, keys, count), lambda: (threshold, below)
    )
    return _kept(levels, keys, threshold, count - below, mask)


def _kept(levels, keys, threshold, ties_pruned, mask):
    """Return which keys are kept: those above the threshold, and those at it except `ties_pruned`."""
    integers, threshold = sort_keys.integers(keys), ops.cast(threshold, backend_ops.device_int())

    def with_ties():
        ties = integers == threshold
        places = ops.where(ties, sort_keys.places(keys, mask), sort_keys.MAX_INT)
        last, _ = _threshold_of_one(levels, sort_keys.of_integers(places), ties_pruned)
        kept = ops.logical_and(ties, places >= ops.cast(last, places.dtype))
        return ops.logical_or(integers > threshold, kept)

    return ops.cast(backend_ops.cond(ties_pruned > 0, with_ties, lambda: integers >= threshold), "uint8")


def _threshold_of_one(levels, keys, count):
    """Return the largest threshold with at most `count` keys below it, and their number."""
    threshold, below, _ = _search(levels, lambda *place: [_histogram(*place, keys)], lambda below: below[0] <= count)
    return threshold, below[0]


def _search(levels, count, fits):
    """Find the bits of the threshold level by level; `count(shift, bits, prefix)` returns a histogram per tensor."""
    prefix, below, shift = ops.cast(0, "int32"), 0, sort_keys.NUM_BITS
    for bits in levels:
        shift -= bits
        counts = ops.stack(count(shift, bits, prefix))
        before = below + ops.cumsum(counts, axis=1) - counts
        index = ops.sum(ops.cast(fits(before), "int32")) - 1
        below, equal = (ops.take(n, [index], axis=1) for n in (before, counts))
        prefix = ops.bitwise_or(prefix, ops.left_shift(index, shift))
    return prefix, below[:, 0], equal[:, 0]


def _histogram(shift, bits, prefix, keys):
    """Count the next bits of the keys that begin with the prefix; all other keys are too large to be counted."""
    values = sort_keys.bits(keys)
    if shift + bits < sort_keys.NUM_BITS:
        values = ops.bitwise_xor(values, prefix)
    return backend_ops.histogram(ops.right_shift(values, shift) if shift else values, 1 << bits)
