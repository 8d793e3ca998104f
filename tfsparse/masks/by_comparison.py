"""The search for a threshold by comparison: XLA compiles and runs it faster than histograms.

    for the next two bits, from the highest to the lowest:
        counts    = number of keys below each of the three continuations, in one pass over the keys
        threshold = the last continuation with at most as many keys below it as are pruned

Ties are told apart by their places: a threshold of a single tensor goes on with the bits of a place if there are ties.
"""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import sort_keys

_BITS, _STEPS = 2, 3  # bits of each pass, and their continuations but for the first
_LAST_OF_KEY, _FIRST_OF_KEY, _FIRST_OF_PLACE = 32, 62, 30  # shifts; those of a key are told apart by 32 more


def common_threshold(all_keys, fits):
    """Return the largest threshold for which `fits` is true of the numbers of keys below it.

    Args:
        all_keys: Function that returns an iterator over the keys of several tensors.
        fits: `int32 tensor with a row per tensor and a column per candidate -> bool per candidate`.

    Returns:
        The threshold, an int32 tensor; for each tensor the number of keys below it, and at it.
    """

    def count(candidates):
        return ops.stack([_count_below(sort_keys.integers(k), candidates) for k in all_keys()])

    def next_bits(shift, threshold):
        candidates = sort_keys.candidates(threshold, shift, _BITS)
        grown = candidates > threshold  # not beyond the largest int32
        found = ops.logical_and(fits(count(ops.unstack(candidates, _STEPS))), grown)
        return shift - _BITS, threshold + ops.left_shift(ops.sum(ops.cast(found, "int32")), shift)

    start = (ops.cast(_FIRST_OF_PLACE, "int32"), ops.cast(0, "int32"))
    threshold = ops.while_loop(lambda shift, _: shift >= 0, next_bits, start)[1]
    below, upto = ops.unstack(count([threshold, threshold + 1]), 2, axis=1)
    return threshold, below, ops.maximum(upto - below, 0)


def kept(size: int):
    """Return the function that says which entries of a tensor are kept; it is the same for all sizes.

    Returns:
        `(keys, [count, threshold, below, has_own], mask=None) -> uint8 tensor`. `count` keys are pruned, those below
        the threshold, which are `below` keys, and ties; if `has_own` is 1, the tensor has a threshold of its own.
    """
    return backend_ops.traced_for_all_lengths(_kept)


def _kept(keys, numbers, mask=None):
    integers, places = sort_keys.integers(keys), sort_keys.places(keys, mask)

    def is_below(key, place):
        return ops.logical_or(integers < key, ops.logical_and(integers == key, places < place))

    def is_unfinished(state):
        count, shift, _, _, below = ops.unstack(state, 5)
        return ops.logical_and(shift >= 0, ops.logical_or(shift >= _LAST_OF_KEY, below < count))

    def next_bits(state):
        count, shift, key, place, below = ops.unstack(state, 5)
        of_key, shift_in_word = shift >= _LAST_OF_KEY, shift % 32
        keys, places = (sort_keys.candidates(n, shift_in_word, _BITS) for n in (key, place))
        keys, places = ops.where(of_key, keys, key), ops.where(of_key, place, places)
        pairs = zip(ops.unstack(keys, _STEPS), ops.unstack(places, _STEPS), strict=True)
        counts = backend_ops.count_each([is_below(*map(_compared, pair)) for pair in pairs])
        grown = ops.where(of_key, keys > key, places > place)  # not beyond the largest int32
        found = ops.logical_and(counts <= count, grown)
        step = ops.left_shift(ops.sum(ops.cast(found, "int32")), shift_in_word)
        key, place = ops.where(of_key, key + step, key), ops.where(of_key, place, place + step)
        below = ops.maximum(below, ops.max(ops.where(found, counts, 0)))
        return (ops.stack([count, shift - _BITS, key, place, below]),)

    (state,) = ops.while_loop(is_unfinished, next_bits, (_start(numbers),))
    _, _, key, place, _ = ops.unstack(state, 5)
    return ops.cast(ops.logical_not(is_below(_compared(key), _compared(place))), "uint8")


def _start(numbers):
    """Return the state of the search: the count, the shift of the next bits, the key and place so far, keys below.

    It is one tensor, since XLA compiles a kernel for each number of a state.
    """
    count, threshold, below, has_own = ops.unstack(numbers, 4)
    shift = ops.where(has_own > 0, _FIRST_OF_KEY, _FIRST_OF_PLACE)
    return ops.stack([count, shift, ops.where(has_own > 0, 0, threshold), 0 * count, ops.where(has_own > 0, 0, below)])


def _count_below(integers, candidates):
    return backend_ops.count_each([integers < _compared(c) for c in candidates])


def _compared(number):
    return ops.cast(number, backend_ops.device_int())
