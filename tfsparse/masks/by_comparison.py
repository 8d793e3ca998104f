"""The search for a threshold by comparison: XLA compiles and runs it faster than histograms.

    for the next two bits, from the highest to the lowest:
        counts    = number of keys below each of the three continuations, in one pass over the keys
        threshold = the last continuation with at most as many keys below it as are pruned

If there are ties, they are searched by their places in the same way.
"""

import itertools

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import sort_keys

_BITS, _STEPS = 2, 3  # bits of each pass, and their continuations but for the first


def common_threshold(scores, fits):
    """Return the largest threshold for which `fits` is true of the numbers of keys below it.

    Args:
        scores: Sequence of tensors, >= 0. An item may be computed when it is asked for.
        fits: `int32 tensor with a row per tensor and a column per candidate -> bool per candidate`.

    Returns:
        The threshold, an int32 tensor; for each tensor the number of keys below it, and at it: too large a number if
        no float is beyond the threshold.
    """

    def next_bits(state):
        (shift, threshold), (below, upto) = ops.unstack(state[:2], 2), ops.split(state[2:], 2)
        candidates = _continuations(threshold, shift)
        rows, order = _rows([sort_keys.integers(sort_keys.keys(s)) for s in scores])
        counts = [_count_below(r, ops.unstack(candidates, _STEPS)) for r in rows]
        counts = ops.transpose(ops.take(ops.concatenate(counts, axis=1), order, axis=1))
        is_number = candidates > threshold  # not beyond the largest int32
        found = ops.logical_and(fits(counts), is_number)
        below = ops.maximum(below, ops.max(ops.where(found, counts, 0), axis=1))
        beyond = ops.where(ops.logical_xor(found, is_number), counts, sort_keys.MAX_INT)
        upto = ops.minimum(upto, ops.min(beyond, axis=1))
        threshold = threshold + ops.left_shift(ops.sum(ops.cast(found, "int32")), shift)
        return (ops.concatenate([ops.stack([shift - _BITS, threshold]), below, upto]),)

    none = ops.zeros(len(scores), "int32")
    start = ops.concatenate([ops.stack([_first_shift(True), 0]), none, none + sort_keys.MAX_INT])
    (state,) = ops.while_loop(lambda state: state[0] >= 0, next_bits, (start,))
    below, upto = ops.split(state[2:], 2)
    return state[1], below, upto - below


def _rows(tensors):
    """Stack flat tensors of one length, because XLA compiles a reduction for each stack.

    Returns:
        The stacks, and for each tensor its row in all of them together.
    """
    lengths = [t.shape[0] for t in tensors]
    groups = [[i for i, n in enumerate(lengths) if n == length] for length in dict.fromkeys(lengths)]
    return [ops.stack([tensors[i] for i in group]) for group in groups], np.argsort([*itertools.chain(*groups)])


def kept(size: int):
    """Return the function that says which entries of a tensor are kept; it is the same for all sizes.

    Returns:
        `(keys, [count, threshold, below, has_own], mask=None) -> uint8 tensor`. `count` keys are pruned, those below
        the threshold, which are `below` keys, and ties; if `has_own` is 1, the tensor has a threshold of its own.
    """
    return backend_ops.traced_for_all_lengths(_kept)


def _kept(keys, numbers, mask=None):
    count, threshold, below, has_own = ops.unstack(numbers, 4)
    integers, is_own = sort_keys.integers(keys), has_own > 0

    start = [count, _first_shift(is_own), ops.where(is_own, 0, threshold), ops.where(is_own, 0, below)]
    threshold, below = _search(integers, start)
    beyond = ops.where(integers > _compared(threshold), sort_keys.MAX_INT, -1)
    ranks = ops.where(integers == _compared(threshold), sort_keys.places(keys, mask), beyond)
    of_places = _first_shift(below < count, 2 * (keys.shape[0] or sort_keys.MAX_INT // 2))
    last, _ = _search(ranks, [count, of_places, 0 * count, below])
    return ops.cast(ranks >= _compared(last), "uint8")


def _first_shift(is_needed, largest: int = sort_keys.MAX_INT):
    """Say with which shift the search for a number of at most `largest` begins; -1 if it is not needed."""
    return ops.where(is_needed, (largest.bit_length() - 1) // _BITS * _BITS, -1)


def _search(integers, start):
    """Find the largest number with at most `count` entries below it.

    Args:
        integers: The entries.
        start: The count, the shift of the next bits (-1: the number is known), the number so far, and how many entries
            are below it. They become one tensor, since XLA compiles a kernel for each number of a state.

    Returns:
        The number, and how many entries are below it.
    """

    def next_bits(state):
        count, shift, number, below = ops.unstack(state, 4)
        candidates = _continuations(number, shift)
        counts = _count_below(integers, ops.unstack(candidates, _STEPS))
        found = ops.logical_and(counts <= count, candidates > number)  # not beyond the largest int32
        number = number + ops.left_shift(ops.sum(ops.cast(found, "int32")), shift)
        return (ops.stack([count, shift - _BITS, number, ops.maximum(below, ops.max(ops.where(found, counts, 0)))]),)

    (state,) = ops.while_loop(lambda state: state[1] >= 0, next_bits, (ops.stack(start),))
    return state[2], state[3]


def _continuations(number, shift):
    """Return what the next bits can make of a number, but for the first, which is the number itself."""
    return number + ops.left_shift(np.arange(1, 1 << _BITS, dtype="int32"), shift)


def _count_below(integers, candidates):
    return backend_ops.count_each([integers < _compared(c) for c in candidates])


def _compared(number):
    return ops.cast(number, backend_ops.device_int())
