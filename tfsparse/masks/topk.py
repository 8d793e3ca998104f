"""Masks from scores, in `keras.ops`: exact counts without a sort, the same on every backend and on both roads.

A mask is 1 where an entry is kept and 0 where it is pruned. Entries with a higher score are kept.

Floats >= 0 have the same order as the integers with the same bits. So two histograms find the k-th smallest score: one
of the high 15 bits of all scores, and one of the low 16 bits of the scores that share their high bits with the k-th.
Where TensorFlow refuses histograms, the bits of the k-th are found one by one.

On GPUs TensorFlow copies int32 tensors to the host to compare, sum, pad or reshape them, and where they enter or leave
a branch. So keys are kept as floats, whose bits are read as integers where needed.

Public functions take a `sparsity`, a fraction in [0, 1). All other functions take counts: in a tensor of more than a
few million entries a float32 fraction does not give an exact count.
"""

import itertools
import math
import numbers

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops

_HIGH_BINS, _LOW_BINS = 1 << 15, 1 << 16  # the sign bit is always 0
_BINS_PER_ROW = 1 << 8  # a histogram is searched by rows of this length
_ENTRIES_PER_ROW = 4096  # rows in the search for the last tie that is kept
_MAX_INT = 2**31 - 1


def num_pruned(sparsity, size: int):
    """Return how many of `size` entries are pruned: `min(round(sparsity * size), size - 1)`. At least one is kept.

    Args:
        sparsity: Fraction in [0, 1), a number or a scalar float tensor.
        size: Number of entries.

    Returns:
        An int for a number, an int32 tensor for a tensor.

    Examples:
        >>> num_pruned(0.9, 15)
        14
    """
    if isinstance(sparsity, numbers.Real):
        return min(round(float(sparsity) * size), size - 1)
    return ops.minimum(ops.cast(ops.round(ops.cast(sparsity, "float32") * size), "int32"), size - 1)


def topk_mask(scores, sparsity, mask=None):
    """Return the mask of one tensor.

        mask = 0 for the round(sparsity * size) lowest scores, else 1

    Ties: entries that were kept until now are kept first, then entries with a lower index. At least one entry is kept.

    Args:
        scores: Float tensor of any shape and sign, compared as float32. If some scores are negative, the last bit is
            ignored, so that neighbouring floats tie. NaN is the highest score.
        sparsity: Fraction in [0, 1), a number or a scalar float tensor.
        mask: The mask until now, of the same shape. Default: None, all entries were kept.

    Returns:
        A tensor with the shape and dtype of `scores`.

    Examples:
        >>> topk_mask(np.array([3.0, 1.0, 2.0, 2.0], "float32"), 0.5)
        array([1., 0., 1., 0.], dtype=float32)
    """
    return prune_lowest([scores], [num_pruned(sparsity, _size(scores))], [mask])[0]


def global_masks(scores, sparsity, masks=None):
    """Return the masks of several tensors with one threshold for all of them.

        mask = 0 for the round(sparsity * size) lowest scores of all tensors together, else 1

    Each tensor keeps at least one entry, and at least a tenth of what it would keep if all had the same sparsity. Ties:
    entries that were kept until now are kept first, then entries of an earlier tensor, then those with a lower index.

    Args:
        scores: Float tensors of any shape and sign, compared as float32. NaN is the highest score.
        sparsity: Fraction of zeros of all tensors together, in [0, 1), a number or a scalar float tensor.
        masks: The masks until now, of the same shapes. Default: None, all entries were kept.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.

    Examples:
        >>> global_masks([np.array([1.0, 2.0]), np.array([3.0, 4.0])], 0.5)
        [array([0., 1.]), array([0., 1.])]
    """
    sizes = [_size(s) for s in scores]
    is_countable = isinstance(sparsity, numbers.Real) or sum(sizes) <= _MAX_INT
    total = num_pruned(sparsity, sum(sizes)) if is_countable else [num_pruned(sparsity, n) for n in sizes]
    ones = [1] * len(sizes)
    limits = max_pruned_by_default(total, [n - 1 for n in sizes], ones)
    return prune_lowest_globally(scores, total, limits, ones, masks)


def largest_mask(scores, num_kept: int):
    """Return masks that keep the `num_kept` highest scores of all tensors together, and all ties at the last place.

    With ties more than `num_kept` entries are kept; `global_masks` counts exactly.

    Args:
        scores: List of float tensors or arrays of any shape.
        num_kept: Number of entries, from 1 to all.

    Returns:
        One mask per tensor, of its shape and dtype: 1 is kept.

    Examples:
        >>> largest_mask([np.array([3.0, 1.0]), np.array([1.0, 0.5])], 2)
        [array([1., 1.]), array([1., 0.])]
    """
    if not scores:
        return []
    sizes, keys = [_size(s) for s in scores], _sort_keys(scores)
    count, ones = _terms(sum(sizes) - num_kept), [1] * len(keys)
    threshold, _, _ = _threshold(keys, count, _at_most(sizes), ones, _uses_bisection())
    threshold = ops.cast(threshold, backend_ops.device_int())
    return [_as_mask(_integers(k) >= threshold, s) for k, s in zip(keys, scores, strict=True)]


def split_proportionally(total: int, sizes) -> np.ndarray:
    """Split a number of entries over tensors in proportion to their sizes.

    Args:
        total: Number of entries, at most the sum of `sizes`.
        sizes: Number of entries of each tensor.

    Returns:
        Integers that sum to `total`, each at most its size.

    Examples:
        >>> split_proportionally(5, [2, 2, 6]).tolist()
        [1, 1, 3]
    """
    sizes = [int(size) for size in sizes]  # of Python: the products may need more than 64 bits
    ends = [int(total) * end // sum(sizes) for end in itertools.accumulate(sizes)]
    return np.diff(np.array(ends, "int64"), prepend=0)


def prune_lowest(scores, num_pruned, masks):
    """Return masks as `topk_mask` does, by counts.

    Args:
        scores: Tensors.
        num_pruned: For each tensor the number of entries to prune, an int or an integer tensor. It may be all entries.
        masks: For each tensor the mask until now, or None.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.
    """
    bisect = _uses_bisection()
    counts = [ops.cast(count, "int32") for count in num_pruned]
    return [_mask(*each, bisect) for each in zip(scores, counts, masks, strict=True)]


def prune_lowest_together(scores, num_pruned, entries_per_unit, masks):
    """Return masks of units of several sizes that make the number of zeros nearest to a count.

    The lowest of all units are pruned, up to the few that are exchanged for the sake of the count.

    Args:
        scores: Tensors with one score per unit. The units of a tensor have one size.
        num_pruned: Number of entries to prune in all tensors together, an int or an integer tensor.
        entries_per_unit: For each tensor the number of entries in a unit.
        masks: Masks of the units until now.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.
    """
    sizes, count = [_size(s) for s in scores], ops.cast(num_pruned, "int32")
    keys, limits = _sort_keys(scores), _at_most(sizes)
    _, below, ties = _threshold(keys, [count], limits, entries_per_unit, _uses_bisection())
    counts = _split_ties([count], below, ties, entries_per_unit)
    return prune_lowest(scores, nearest_counts(counts, count, sizes, entries_per_unit, ops), masks)


def nearest_counts(counts, total, limits, entries_per_unit, xp=np):
    """Change some numbers of units so that they have the nearest possible number of entries.

    Args:
        counts: For each size of units their number, ints or integer tensors.
        total: Number of entries that they shall have together.
        limits: For each size the highest number, ints.
        entries_per_unit: The sizes, ints.
        xp: `numpy`, or `keras.ops` for tensors. Default: `numpy`.

    Returns:
        The new numbers. The changes are as few as possible.
    """
    main = int(np.argmax(np.multiply(limits, entries_per_unit)))
    size, rest = entries_per_unit[main], [i for i in range(len(limits)) if i != main]
    moves = _moves([limits[i] for i in rest], [size // math.gcd(size, entries_per_unit[i]) for i in rest])
    changed = {i: counts[i] + moves[:, column] for column, i in enumerate(rest)}
    left = total - sum(entries_per_unit[i] * n for i, n in changed.items())
    changed[main] = xp.clip(xp.floor_divide(left + size // 2, size), 0, limits[main])
    missed = xp.abs(left - size * changed[main])
    for i in rest:
        missed = xp.where(xp.logical_and(changed[i] >= 0, changed[i] <= limits[i]), missed, _MAX_INT)
    cost = np.abs(moves) @ np.array([entries_per_unit[i] for i in rest], "int32")
    best = xp.argmin(xp.where(missed == xp.min(missed), cost, _MAX_INT))
    return [xp.take(changed[i], best) for i in range(len(limits))]


def _moves(limits, ranges):
    """Return all combinations of small changes of some numbers, one per row."""
    spans = [range(-min(n, r), min(n, r) + 1) for n, r in zip(limits, ranges, strict=True)]
    return np.array(list(itertools.product(*spans)), "int32")


def prune_lowest_globally(scores, num_pruned, max_pruned_units, entries_per_unit, masks=None, min_pruned_units=None):
    """Return masks of units as `global_masks` does, by counts, where a unit has several entries.

    If a unit does not fit into what is left of the count, smaller units of other tensors fill it up.

    Args:
        scores: Tensors with one score per unit.
        num_pruned: Number of entries to prune in all tensors together: an int, an integer tensor, or a list of these
            whose sum is meant, so that it may have more than 31 bits.
        max_pruned_units: For each tensor the number of units that may be pruned.
        entries_per_unit: For each tensor the number of entries in a unit.
        masks: Masks of the units until now. Default: None, all units were kept.
        min_pruned_units: For each tensor the number of units that are pruned in any case, an integer tensor, or None.
            Default: None, no unit.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.
    """
    masks, terms, bisect = masks or [None] * len(scores), _terms(num_pruned), _uses_bisection()
    limits = [*zip(min_pruned_units or [None] * len(scores), max_pruned_units, strict=True)]
    keys = _sort_keys(scores)
    threshold, below, ties = _threshold(keys, terms, limits, entries_per_unit, bisect)
    counts = _split_ties(terms, below, ties, entries_per_unit)
    if len(set(entries_per_unit)) > 1:
        return prune_lowest(scores, _filled_up(counts, terms, limits, entries_per_unit), masks)
    kept = []
    for i in range(len(scores)):
        # a tensor at one of its limits has a threshold of its own
        own_threshold, own_below = backend_ops.cond(
            _is_at_limit(counts[i], *limits[i]),
            lambda i=i: _threshold_of_one(keys[i], counts[i], bisect),
            lambda i=i: (threshold, below[i]),
        )
        kept.append(_kept(keys[i], own_threshold, counts[i] - own_below, masks[i]))
    return [_as_mask(k, s) for k, s in zip(kept, scores, strict=True)]


def max_pruned_by_default(num_pruned, max_pruned_units, entries_per_unit) -> list:
    """Return how many units of each tensor may be pruned, so that none loses nearly all of them to one threshold.

        a tensor keeps at least a tenth of what it would keep if all had the same sparsity

    Args:
        num_pruned: Number of entries to prune in all tensors together, as in `prune_lowest_globally`.
        max_pruned_units: For each tensor the number of units that could be pruned.
        entries_per_unit: For each tensor the number of entries in a unit.

    Returns:
        A list of int32 tensors.
    """
    prunable = float(sum(n * e for n, e in zip(max_pruned_units, entries_per_unit, strict=True)))
    kept_fraction = 1.0 - sum(ops.cast(term, "float32") for term in _terms(num_pruned)) / prunable
    return [n - ops.cast(kept_fraction * (n / 10), "int32") for n in max_pruned_units]


@backend_ops.traced_once
def _mask(score, count, mask, bisect):
    keys = _sort_keys([score])[0]
    threshold, below = _threshold_of_one(keys, count, bisect)
    return _as_mask(_kept(keys, threshold, count - below, mask), score)


def _uses_bisection():
    # read at each call: a traced function would remember the answer
    return backend_ops.histograms_are_refused()


def _size(tensor) -> int:
    return math.prod(tensor.shape)


def _as_mask(kept, scores):
    return ops.cast(ops.reshape(kept, scores.shape), scores.dtype)


def _terms(count):
    """Return int32 tensors whose sum is a count; an int may have more than 31 bits."""
    if isinstance(count, (list, tuple)):
        return [term for each in count for term in _terms(each)]
    if isinstance(count, numbers.Integral) and count > _MAX_INT:
        return [*_terms(_MAX_INT), *_terms(count - _MAX_INT)]
    return [ops.cast(count, "int32")]


def _wide_sum(terms, high=0, low=0):
    """Return the sum of int32 tensors and of `high * 2**16 + low` in this form, with 0 <= low < 2**16."""
    high = high + sum(ops.right_shift(term, 16) for term in terms)
    low = low + sum(ops.bitwise_and(term, 0xFFFF) for term in terms)
    return high + ops.right_shift(low, 16), ops.bitwise_and(low, 0xFFFF)


def _narrow(high, low):
    """Return `high * 2**16 + low` as int32, at most the largest one; high >= 0."""
    return ops.where(high < 1 << 15, ops.bitwise_or(ops.left_shift(ops.minimum(high, 0x7FFF), 16), low), _MAX_INT)


def _sort_keys(scores):
    """Return flat float32 keys whose bits, read as integers, are >= 0 and have the order of the scores."""
    flat = [ops.reshape(ops.cast(s, "float32"), (-1,)) for s in scores]
    signs = [ops.min(ops.cast(_bits(f), "float32")) for f in flat]
    any_negative = ops.any(ops.stack(signs) < 0)
    return backend_ops.cond(any_negative, lambda: [_signed_keys(f) for f in flat], lambda: flat)


def _signed_keys(values):
    bits = ops.where(values == 0, 0, _bits(values))  # -0.0 ties with 0.0
    keys = ops.right_shift(ops.bitwise_xor(bits, ops.bitwise_and(ops.right_shift(bits, 31), _MAX_INT)), 1)
    return ops.view(ops.bitwise_and(ops.bitwise_xor(keys, 1 << 30), _MAX_INT), "float32")  # keys + 2**30


def _bits(keys):
    return ops.view(keys, "int32")


def _integers(keys):
    """Return keys as integers that are compared where they are."""
    return ops.cast(_bits(keys), backend_ops.device_int())


def _at_most(counts):
    """Return limits without a least number: pairs of the least and the largest number of units."""
    return [(None, count) for count in counts]


def _within(count, limits):
    least, most = limits
    return ops.minimum(count if least is None else ops.maximum(count, least), most)


def _is_at_limit(count, least, most):
    at_most = count >= most
    return at_most if least is None else ops.logical_or(at_most, ops.logical_and(count <= least, least > 0))


def _threshold(keys, num_pruned, limits, entries_per_unit, bisect):
    """Find the largest key T with `sum(entries_per_unit * number of keys < T, within limits) <= sum(num_pruned)`.

    Returns:
        T; for each tensor the number of units below T, within its limits; and the number of units at T beyond those.
    """
    find = _threshold_by_bisection if bisect else _threshold_by_histograms
    threshold, below, equal = find(keys, num_pruned, limits, entries_per_unit)
    pruned = [*map(_within, below, limits)]
    ties = [_within(b + n, limit) - p for b, n, limit, p in zip(below, equal, limits, pruned, strict=True)]
    return threshold, pruned, ties


def _threshold_by_histograms(keys, num_pruned, limits, entries_per_unit):
    keys = [_bits(k) for k in keys]
    counts = [backend_ops.histogram(ops.right_shift(k, 16), _HIGH_BINS) for k in keys]
    high, below, _ = _find_bin(counts, [0] * len(keys), num_pruned, limits, entries_per_unit)
    prefix = ops.left_shift(high, 16)
    # keys with these high bits become their low bits, all other keys are too large to be counted
    counts = [backend_ops.histogram(ops.bitwise_xor(k, prefix), _LOW_BINS) for k in keys]
    low, below, equal = _find_bin(counts, below, num_pruned, limits, entries_per_unit)
    return ops.bitwise_or(prefix, low), below, equal


def _threshold_by_bisection(keys, num_pruned, limits, entries_per_unit):
    """Find the bits from the highest to the lowest; each costs a comparison of all keys."""
    keys, zero = [_integers(k) for k in keys], ops.cast(0, "int32")

    def set_bit(bit, threshold):
        higher = ops.bitwise_or(threshold, ops.left_shift(zero + 1, bit))
        below = [backend_ops.count(k < ops.cast(higher, backend_ops.device_int())) for k in keys]
        fits = _left(below, num_pruned, limits, entries_per_unit)[0] >= 0
        return bit - 1, ops.where(fits, higher, threshold)

    _, threshold = ops.while_loop(lambda bit, _: bit >= 0, set_bit, (zero + 30, zero))
    last = ops.cast(threshold, backend_ops.device_int())
    return threshold, [backend_ops.count(k < last) for k in keys], [backend_ops.count(k == last) for k in keys]


def _threshold_of_one(keys, count, bisect):
    threshold, below, _ = _threshold([keys], [count], _at_most([_size(keys)]), [1], bisect)
    return threshold, below[0]


def _left(below, num_pruned, limits, entries_per_unit):
    """Return how many entries are left to prune when all units below are pruned, as `_wide_sum` does."""
    pruned = [e * _within(b, limit) for b, limit, e in zip(below, limits, entries_per_unit, strict=True)]
    return _wide_sum([*num_pruned, *(-p for p in pruned)])


def _find_bin(counts, below, num_pruned, limits, entries_per_unit):
    """Find the last bin such that at most `num_pruned` entries lie below it.

    First the row of 256 bins is found, then the bin in the row: only its sums run over the whole histogram.

    Args:
        counts: For each tensor a histogram of its units.
        below: For each tensor the number of units below the first bin.
        num_pruned: Terms of the number of entries.
        limits: For each tensor the least and the largest number of units that count.
        entries_per_unit: For each tensor the number of entries in a unit.

    Returns:
        The bin; for each tensor the number of units below it, and the number in it.
    """
    rows = [ops.reshape(c, (-1, _BINS_PER_ROW)) for c in counts]
    row, below = _find_index([ops.sum(r, axis=1) for r in rows], below, num_pruned, limits, entries_per_unit)
    bins = [ops.sum(ops.where(_indices(r) == row, ops.transpose(r), 0), axis=1) for r in rows]
    index, below = _find_index(bins, below, num_pruned, limits, entries_per_unit)
    return row * _BINS_PER_ROW + index, below, [ops.sum(ops.where(_indices(b) == index, b, 0)) for b in bins]


def _find_index(counts, below, num_pruned, limits, entries_per_unit):
    before = [b + ops.cumsum(c) - c for b, c in zip(below, counts, strict=True)]
    left, _ = _left(before, num_pruned, limits, entries_per_unit)
    index = ops.sum(ops.cast(left >= 0, "int32")) - 1
    # sums instead of a look-up, because XLA unrolls a running sum of which one entry is looked up
    return index, [b + ops.sum(ops.where(_indices(c) < index, c, 0)) for b, c in zip(below, counts, strict=True)]


def _indices(counts):
    return ops.arange(counts.shape[0], dtype="int32")


def _split_ties(num_pruned, below, ties, entries_per_unit):
    """Return how many units each tensor loses: all below the threshold, and ties from the last tensor backwards."""
    left = _left(below, num_pruned, _at_most(below), entries_per_unit)
    counts = []
    for b, t, e in reversed(list(zip(below, ties, entries_per_unit, strict=True))):
        taken = ops.minimum(ops.floor_divide(_narrow(*left), e), t)
        left = _wide_sum([-taken * e], *left)
        counts.append(b + taken)
    return counts[::-1]


def _filled_up(counts, num_pruned, limits, entries_per_unit):
    """Add units of falling size to the counts while they fit; of the smallest size also one that fits by half."""
    left, counts = _left(counts, num_pruned, _at_most(counts), entries_per_unit), list(counts)
    by_size = sorted(range(len(counts)), key=lambda i: -entries_per_unit[i])
    for i in by_size:
        size = entries_per_unit[i]
        half = size // 2 if size == min(entries_per_unit) else 0
        fits = ops.floor_divide(ops.minimum(_narrow(*left), _MAX_INT - half) + half, size)
        added = ops.clip(fits, 0, limits[i][1] - counts[i])
        left = _wide_sum([-added * size], *left)
        counts[i] = counts[i] + added
    return counts


def _kept(keys, threshold, ties_pruned, mask):
    """Return which keys are kept: those above the threshold, and those at it except `ties_pruned`."""
    threshold = ops.cast(threshold, backend_ops.device_int())
    return backend_ops.cond(
        ties_pruned > 0,
        lambda: ops.logical_or(
            _integers(keys) > threshold, _kept_ties(_integers(keys) == threshold, ties_pruned, mask)
        ),
        lambda: _integers(keys) >= threshold,
    )


def _kept_ties(ties, ties_pruned, mask):
    kept_before = ties if mask is None else ops.logical_and(ties, ops.reshape(mask, (-1,)) > 0)
    num_kept = backend_ops.count(ties) - ties_pruned
    kept = _first(kept_before, num_kept)
    if mask is None:
        return kept
    pruned_before = ops.logical_and(ties, ops.logical_not(kept_before))
    return ops.logical_or(kept, _first(pruned_before, num_kept - backend_ops.count(kept_before)))


def _first(flags, count):
    """Return only the first `count` of the set flags.

    The running sum is over rows, then over one row, never over the whole tensor. Sums of a row are exact in float32.
    """
    size = flags.shape[0]
    rows = ops.reshape(ops.pad(ops.cast(flags, "float32"), ((0, -size % _ENTRIES_PER_ROW),)), (-1, _ENTRIES_PER_ROW))
    totals = ops.cast(ops.sum(rows, axis=1), "int32")
    row_index = ops.expand_dims(_indices(rows), 1)
    full_rows = ops.sum(ops.cast(ops.cumsum(totals) <= count, "int32"))
    left = count - ops.sum(ops.where(_indices(rows) < full_rows, totals, 0))
    row = ops.cast(ops.sum(ops.where(row_index == full_rows, rows, 0.0), axis=0), "int32")
    before_end = ops.logical_and(row_index == full_rows, ops.cumsum(row) <= left)
    first = ops.logical_and(rows > 0, ops.logical_or(row_index < full_rows, before_end))
    return ops.reshape(first, (-1,))[:size]
