"""Masks from scores, in `keras.ops`: exact, without a sort, the same on every backend and on both roads.

A mask is 1 where the weight lives and 0 where it is pruned; a higher score lives. Floats that are not negative order
like the integers with the same bits, so the k-th smallest is found by two histograms: one of the high bits of all
scores, one of the 16 low bits of those that share their high bits with the k-th.

Public functions take a `sparsity`, a fraction in [0, 1). All others take counts: float32 cannot hold a fraction that
counts exactly in a tensor of more than a few million entries.
"""

import functools
import numbers

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops

_HIGH, _LOW = 1 << 15, 1 << 16  # bins of the two histograms; the sign bit is spent
_SIDE = 1 << 8  # a histogram is searched by rows of this length
_DEAD = 0x7F800000  # the bits of infinity: beyond every finite magnitude
_ROW = 4096  # entries per row in the search for the last tie that lives


def num_pruned(sparsity, size: int):
    """Return `min(round(sparsity * size), size - 1)`: at least one entry lives.

    Args:
        sparsity: A number, or a float tensor in the graph; a fraction in [0, 1).
        size: The number of entries.

    Returns:
        An int for a number, an int32 tensor for a tensor.

    >>> num_pruned(0.9, 15)
    14
    """
    if isinstance(sparsity, numbers.Real):
        return min(round(float(sparsity) * size), size - 1)
    return ops.minimum(ops.cast(ops.round(ops.cast(sparsity, "float32") * size), "int32"), size - 1)


def topk_mask(scores, sparsity, mask=None):
    """1 for the `size - round(sparsity * size)` largest scores, 0 for the others; ties: living first, then lower index.

    Args:
        scores: float tensor of any shape and sign, compared as float32; where some are negative, without the last bit
            (neighbouring floats tie). NaN counts as the largest.
        sparsity: fraction in [0, 1). At least one entry lives.
        mask: the mask until now, of the same shape: a pruned entry wins no tie against a living one.

    Returns: mask of the scores' shape and dtype.

    >>> topk_mask(np.array([3.0, 1.0, 2.0, 2.0], "float32"), 0.5)
    array([1., 0., 1., 0.], dtype=float32)
    """
    return prune_lowest([scores], [num_pruned(sparsity, _size(scores))], [mask])[0]


def global_masks(scores, sparsity, masks=None):
    """One threshold over all tensors: the lowest `sparsity` of all entries are pruned, whichever tensor they lie in.

    Every tensor keeps at least a tenth of what a uniform share would leave it, and never less than one entry. Ties:
    living first, then earlier tensor, then lower index. Arguments and results are lists of those of `topk_mask`.

    >>> global_masks([np.array([1.0, 2.0]), np.array([3.0, 4.0])], 0.5)
    [array([0., 1.]), array([0., 1.])]
    """
    sizes = [_size(s) for s in scores]
    total = num_pruned(sparsity, sum(sizes))
    return prune_lowest_globally(scores, total, [n - 1 for n in sizes], [1] * len(sizes), masks)


def largest_mask(scores, count: int):
    """1 for the `count` largest entries of all tensors together; all that tie with the last of them are 1 too.

    >>> largest_mask([np.array([3.0, 1.0]), np.array([1.0, 0.5])], 2)
    [array([1., 1.]), array([1., 0.])]
    """
    if not scores:
        return []
    sizes, keys = [_size(s) for s in scores], _ordered(scores)
    threshold, _, _ = _threshold(keys, [1] * len(keys), sizes, sum(sizes) - count)
    return [_as_mask(k >= threshold, s) for k, s in zip(keys, scores, strict=True)]


def num_within_budget(weights, budget: float, masks) -> int:
    """How many of the smallest living weights of all tensors together can go while their squares sum to `<= budget`.

    Found by bisection over the bits of |w|; sums are float32. Of equal magnitudes as many as fit.

    Args:
        weights, masks: lists of tensors of equal shapes; only where the mask is not 0 is anything counted.
        budget: a float; below 0 or NaN: none fits.

    >>> num_within_budget([np.array([0.1, -0.2]), np.array([0.0, 0.3])], 0.06, [np.ones(2), np.array([0.0, 1.0])])
    2
    """
    budget = ops.convert_to_tensor(np.float32(min(budget, 3e38)))
    return int(_compiled_within()([backend_ops.read(w) for w in weights], budget, [backend_ops.read(m) for m in masks]))


@functools.cache
def _compiled_within():
    return backend_ops.compiled(_num_within_budget)


def _num_within_budget(weights, budget, masks):
    weights = [ops.cast(w, "float32") for w in weights]
    keys = [ops.where(m > 0, ops.view(ops.abs(w), "int32"), _DEAD) for w, m in zip(weights, masks, strict=True)]

    def below(key):
        """Living weights below a key: their number and the sum of their squares."""
        inside = [k < key for k in keys]
        squares = [ops.sum(ops.where(i, ops.square(w), 0.0)) for i, w in zip(inside, weights, strict=True)]
        return sum(_count(i) for i in inside), sum(squares)

    def narrow(_, bounds):
        low, high = bounds  # what lies below `low` fits, what lies below `high` may not
        middle = low + (high - low + 1) // 2
        fits = below(middle)[1] <= budget
        return ops.where(fits, middle, low), ops.where(fits, high, middle - 1)

    key, _ = ops.fori_loop(0, 32, narrow, (ops.convert_to_tensor(0, "int32"), ops.convert_to_tensor(_DEAD, "int32")))
    (number, used), (upto, _) = below(key), below(key + 1)
    each = ops.square(ops.view(key, "float32"))
    ties = ops.minimum(ops.floor((budget - used) / each), ops.cast(upto - number, "float32"))
    return ops.where(budget >= 0, number + ops.cast(ops.where(upto > number, ties, 0.0), "int32"), 0)


def split_proportionally(total: int, sizes) -> np.ndarray:
    """`total` entries spread over tensors in proportion to `sizes`: integers that sum to it, each at most its size.

    >>> split_proportionally(5, [2, 2, 6]).tolist()
    [1, 1, 3]
    """
    return np.diff(total * np.cumsum(np.asarray(sizes, "int64")) // sum(sizes), prepend=0)


def prune_lowest(scores, counts, masks):
    """For each tensor: 0 for its `count` lowest scores, 1 for the others; `topk_mask` by number, which may be all."""
    counts = [ops.cast(count, "int32") for count in counts]
    return [_mask(*each) for each in zip(scores, counts, masks, strict=True)]


def prune_lowest_globally(scores, total, most, entries, masks=None):
    """`global_masks` for units of several entries: prune the lowest units until `total` entries are gone.

    Args:
        scores: list of tensors with one score per unit.
        total: number of entries to prune.
        most: list: how many units each tensor may lose. A tenth of its share of what is kept lives in any case.
        entries: list: entries per unit of each tensor.
        masks: list of unit masks until now.
    """
    masks = masks or [None] * len(scores)
    kept = 1.0 - ops.cast(total, "float32") / sum(n * e for n, e in zip(most, entries, strict=True))
    caps = [n - ops.cast(kept * (n / 10), "int32") for n in most]
    keys = _ordered(scores)
    threshold, below, ties = _threshold(keys, entries, caps, total)
    counts = _shares(total, below, ties, entries)
    living = []
    for i in range(len(scores)):
        # a tensor at its floor has a threshold of its own, below the common one
        own, own_below = backend_ops.cond(
            counts[i] >= caps[i],
            lambda i=i: _own_threshold(keys[i], counts[i]),
            lambda i=i: (threshold, below[i]),
        )
        living.append(_living(keys[i], own, counts[i] - own_below, masks[i]))
    return [_as_mask(alive, s) for alive, s in zip(living, scores, strict=True)]


@backend_ops.traced_once
def _mask(score, count, mask):
    keys = _ordered([score])[0]
    threshold, below = _own_threshold(keys, count)
    return _as_mask(_living(keys, threshold, count - below, mask), score)


def _size(tensor) -> int:
    return int(np.prod(tensor.shape))


def _as_mask(living, scores):
    return ops.cast(ops.reshape(living, scores.shape), scores.dtype)


def _ordered(scores):
    """Flat int32 keys >= 0 that order as the scores do."""
    flat = [ops.reshape(ops.cast(s, "float32"), (-1,)) for s in scores]
    bits = [ops.view(f, "int32") for f in flat]
    signed = ops.any(ops.stack([ops.min(b) for b in bits]) < 0)
    return backend_ops.cond(signed, lambda: [_signed_keys(*pair) for pair in zip(flat, bits, strict=True)], lambda: bits)


def _signed_keys(values, bits):
    bits = ops.where(values == 0, 0, bits)  # -0.0 ties with 0.0
    keys = ops.bitwise_xor(bits, ops.bitwise_and(ops.right_shift(bits, 31), 0x7FFFFFFF))
    return ops.right_shift(keys, 1) + (1 << 30)


def _threshold(keys, entries, caps, total):
    """The largest key T with `sum(entries * min(#{keys < T}, caps)) <= total`; those minima, and the ties at T."""
    counts = [backend_ops.histogram(ops.right_shift(k, 16), _HIGH) for k in keys]
    high, below, _ = _last_within(counts, [0] * len(keys), entries, caps, total)
    prefix = ops.left_shift(high, 16)
    # keys with this prefix leave their low bits, all others something beyond the histogram
    counts = [backend_ops.histogram(ops.bitwise_xor(k, prefix), _LOW) for k in keys]
    low, below, at = _last_within(counts, below, entries, caps, total)
    pruned = [ops.minimum(b, cap) for b, cap in zip(below, caps, strict=True)]
    ties = [ops.minimum(b + n, cap) - p for b, n, cap, p in zip(below, at, caps, pruned, strict=True)]
    return ops.bitwise_or(prefix, low), pruned, ties


def _own_threshold(keys, count):
    threshold, below, _ = _threshold([keys], [1], [_size(keys)], count)
    return threshold, below[0]


def _last_within(counts, below, entries, caps, total):
    """The last bin before which, with `below` under all bins, at most `total` entries would be pruned; per tensor, how
    many lie before it and how many in it.

    First the row of 256 bins, then the bin in that row: besides its sum nothing runs over the whole histogram.
    """
    squares = [ops.reshape(c, (-1, _SIDE)) for c in counts]
    row, below = _last_place([ops.sum(s, axis=1) for s in squares], below, entries, caps, total)
    inside = [ops.sum(ops.where(_places(s) == row, ops.transpose(s), 0), axis=1) for s in squares]
    place, below = _last_place(inside, below, entries, caps, total)
    return row * _SIDE + place, below, [ops.sum(ops.where(_places(i) == place, i, 0)) for i in inside]


def _last_place(counts, below, entries, caps, total):
    before = [b + ops.cumsum(c) - c for b, c in zip(below, counts, strict=True)]
    pruned = sum(e * ops.minimum(b, cap) for b, e, cap in zip(before, entries, caps, strict=True))
    place = ops.sum(ops.cast(pruned <= total, "int32")) - 1
    # sums, since XLA unrolls a running sum in which a single place is looked up
    return place, [b + ops.sum(ops.where(_places(c) < place, c, 0)) for b, c in zip(below, counts, strict=True)]


def _places(counts):
    return ops.arange(counts.shape[0], dtype="int32")


def _shares(total, below, ties, entries):
    """How many units each tensor loses: all below the threshold, and ties from the last tensor backwards."""
    left = total - sum(b * e for b, e in zip(below, entries, strict=True))
    counts = []
    for b, t, e in reversed(list(zip(below, ties, entries, strict=True))):
        taken = ops.minimum(ops.floor_divide(left, e), t)
        left = left - taken * e
        counts.append(b + taken)
    return counts[::-1]


def _living(keys, threshold, ties_pruned, mask):
    """Which keys live: those above the threshold, and of those at it all but `ties_pruned`."""
    return backend_ops.cond(
        ties_pruned > 0,
        lambda: ops.logical_or(keys > threshold, _living_ties(keys == threshold, ties_pruned, mask)),
        lambda: keys >= threshold,
    )


def _living_ties(ties, ties_pruned, mask):
    live = ties if mask is None else ops.logical_and(ties, ops.reshape(mask, (-1,)) > 0)
    kept = _count(ties) - ties_pruned
    living = _first(live, kept)
    if mask is None:
        return living
    return ops.logical_or(living, _first(ops.logical_and(ties, ops.logical_not(live)), kept - _count(live)))


def _count(flags):
    return ops.sum(ops.cast(flags, "int32"))


def _first(flags, count):
    """The first `count` of the set flags: a running sum over rows, then over one row, never over the whole tensor."""
    size = flags.shape[0]
    rows = ops.reshape(ops.pad(ops.cast(flags, "int32"), ((0, -size % _ROW),)), (-1, _ROW))
    totals = ops.sum(rows, axis=1)
    full_rows = ops.sum(ops.cast(ops.cumsum(totals) <= count, "int32"))
    index = ops.arange(rows.shape[0], dtype="int32")
    left = count - ops.sum(ops.where(index < full_rows, totals, 0))
    row = ops.sum(ops.where(ops.expand_dims(index == full_rows, 1), rows, 0), axis=0)
    last = full_rows * _ROW + ops.sum(ops.cast(ops.cumsum(row) <= left, "int32"))
    return ops.logical_and(flags, ops.arange(size, dtype="int32") < last)
