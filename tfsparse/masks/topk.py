"""Masks from scores, in `keras.ops`: exact counts without a sort, the same on every backend and on both roads.

A mask is 1 where an entry is kept and 0 where it is pruned. Entries with a higher score are kept.

Floats >= 0 have the same order as the integers with the same bits. So two histograms find the k-th smallest score: one
of the high 15 bits of all scores, and one of the low 16 bits of the scores that share their high bits with the k-th.

Public functions take a `sparsity`, a fraction in [0, 1). All other functions take counts: in a tensor of more than a
few million entries a float32 fraction does not give an exact count.
"""

import math
import numbers

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops

_HIGH_BINS, _LOW_BINS = 1 << 15, 1 << 16  # the sign bit is always 0
_BINS_PER_ROW = 1 << 8  # a histogram is searched by rows of this length
_ENTRIES_PER_ROW = 4096  # rows in the search for the last tie that is kept


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
    total = num_pruned(sparsity, sum(sizes))
    return prune_lowest_globally(scores, total, [n - 1 for n in sizes], [1] * len(sizes), masks)


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
    threshold, _, _ = _threshold(keys, sum(sizes) - num_kept, sizes, [1] * len(keys))
    return [_as_mask(k >= threshold, s) for k, s in zip(keys, scores, strict=True)]


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
    return np.diff(total * np.cumsum(np.asarray(sizes, "int64")) // sum(sizes), prepend=0)


def prune_lowest(scores, num_pruned, masks):
    """Return masks as `topk_mask` does, by counts.

    Args:
        scores: Tensors.
        num_pruned: For each tensor the number of entries to prune, an int or an integer tensor. It may be all entries.
        masks: For each tensor the mask until now, or None.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.
    """
    counts = [ops.cast(count, "int32") for count in num_pruned]
    return [_mask(*each) for each in zip(scores, counts, masks, strict=True)]


def prune_lowest_globally(scores, num_pruned, max_pruned_units, entries_per_unit, masks=None):
    """Return masks of units as `global_masks` does, by counts, where a unit has several entries.

    Args:
        scores: Tensors with one score per unit.
        num_pruned: Number of entries to prune in all tensors together, an int or an integer tensor.
        max_pruned_units: For each tensor the number of units that may be pruned. A tenth of what a tensor would keep if
            all had the same sparsity is kept in any case.
        entries_per_unit: For each tensor the number of entries in a unit.
        masks: Masks of the units until now. Default: None, all units were kept.

    Returns:
        A list of tensors with the shapes and dtypes of `scores`.
    """
    masks = masks or [None] * len(scores)
    prunable = sum(n * e for n, e in zip(max_pruned_units, entries_per_unit, strict=True))
    kept_fraction = 1.0 - ops.cast(num_pruned, "float32") / prunable
    limits = [n - ops.cast(kept_fraction * (n / 10), "int32") for n in max_pruned_units]
    keys = _sort_keys(scores)
    threshold, below, ties = _threshold(keys, num_pruned, limits, entries_per_unit)
    counts = _split_ties(num_pruned, below, ties, entries_per_unit)
    kept = []
    for i in range(len(scores)):
        # a tensor at its limit has a threshold of its own, below the common one
        own_threshold, own_below = backend_ops.cond(
            counts[i] >= limits[i],
            lambda i=i: _threshold_of_one(keys[i], counts[i]),
            lambda i=i: (threshold, below[i]),
        )
        kept.append(_kept(keys[i], own_threshold, counts[i] - own_below, masks[i]))
    return [_as_mask(k, s) for k, s in zip(kept, scores, strict=True)]


@backend_ops.traced_once
def _mask(score, count, mask):
    keys = _sort_keys([score])[0]
    threshold, below = _threshold_of_one(keys, count)
    return _as_mask(_kept(keys, threshold, count - below, mask), score)


def _size(tensor) -> int:
    return math.prod(tensor.shape)


def _as_mask(kept, scores):
    return ops.cast(ops.reshape(kept, scores.shape), scores.dtype)


def _sort_keys(scores):
    """Return flat int32 keys >= 0 with the order of the scores."""
    flat = [ops.reshape(ops.cast(s, "float32"), (-1,)) for s in scores]
    bits = [ops.view(f, "int32") for f in flat]
    any_negative = ops.any(ops.stack([ops.min(b) for b in bits]) < 0)
    return backend_ops.cond(
        any_negative, lambda: [_signed_keys(*each) for each in zip(flat, bits, strict=True)], lambda: bits
    )


def _signed_keys(values, bits):
    bits = ops.where(values == 0, 0, bits)  # -0.0 ties with 0.0
    keys = ops.bitwise_xor(bits, ops.bitwise_and(ops.right_shift(bits, 31), 0x7FFFFFFF))
    return ops.right_shift(keys, 1) + (1 << 30)


def _threshold(keys, num_pruned, limits, entries_per_unit):
    """Find the largest key T with `sum(entries_per_unit * min(number of keys < T, limit)) <= num_pruned`.

    Returns:
        T; for each tensor the number of units below T, at most its limit; and the number of units at T beyond those.
    """
    counts = [backend_ops.histogram(ops.right_shift(k, 16), _HIGH_BINS) for k in keys]
    high, below, _ = _find_bin(counts, [0] * len(keys), num_pruned, limits, entries_per_unit)
    prefix = ops.left_shift(high, 16)
    # keys with these high bits become their low bits, all other keys are too large to be counted
    counts = [backend_ops.histogram(ops.bitwise_xor(k, prefix), _LOW_BINS) for k in keys]
    low, below, equal = _find_bin(counts, below, num_pruned, limits, entries_per_unit)
    pruned = [ops.minimum(b, limit) for b, limit in zip(below, limits, strict=True)]
    ties = [ops.minimum(b + n, limit) - p for b, n, limit, p in zip(below, equal, limits, pruned, strict=True)]
    return ops.bitwise_or(prefix, low), pruned, ties


def _threshold_of_one(keys, count):
    threshold, below, _ = _threshold([keys], count, [_size(keys)], [1])
    return threshold, below[0]


def _find_bin(counts, below, num_pruned, limits, entries_per_unit):
    """Find the last bin such that at most `num_pruned` entries lie below it.

    First the row of 256 bins is found, then the bin in the row: only its sums run over the whole histogram.

    Args:
        counts: For each tensor a histogram of its units.
        below: For each tensor the number of units below the first bin.
        num_pruned: Number of entries.
        limits: For each tensor the number of units that count.
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
    pruned = sum(e * ops.minimum(b, n) for b, n, e in zip(before, limits, entries_per_unit, strict=True))
    index = ops.sum(ops.cast(pruned <= num_pruned, "int32")) - 1
    # sums instead of a look-up, because XLA unrolls a running sum of which one entry is looked up
    return index, [b + ops.sum(ops.where(_indices(c) < index, c, 0)) for b, c in zip(below, counts, strict=True)]


def _indices(counts):
    return ops.arange(counts.shape[0], dtype="int32")


def _split_ties(num_pruned, below, ties, entries_per_unit):
    """Return how many units each tensor loses: all below the threshold, and ties from the last tensor backwards."""
    left = num_pruned - sum(b * e for b, e in zip(below, entries_per_unit, strict=True))
    counts = []
    for b, t, e in reversed(list(zip(below, ties, entries_per_unit, strict=True))):
        taken = ops.minimum(ops.floor_divide(left, e), t)
        left = left - taken * e
        counts.append(b + taken)
    return counts[::-1]


def _kept(keys, threshold, ties_pruned, mask):
    """Return which keys are kept: those above the threshold, and those at it except `ties_pruned`."""
    return backend_ops.cond(
        ties_pruned > 0,
        lambda: ops.logical_or(keys > threshold, _kept_ties(keys == threshold, ties_pruned, mask)),
        lambda: keys >= threshold,
    )


def _kept_ties(ties, ties_pruned, mask):
    kept_before = ties if mask is None else ops.logical_and(ties, ops.reshape(mask, (-1,)) > 0)
    num_kept = _count(ties) - ties_pruned
    kept = _first(kept_before, num_kept)
    if mask is None:
        return kept
    pruned_before = ops.logical_and(ties, ops.logical_not(kept_before))
    return ops.logical_or(kept, _first(pruned_before, num_kept - _count(kept_before)))


def _count(flags):
    return ops.sum(ops.cast(flags, "int32"))


def _first(flags, count):
    """Return only the first `count` of the set flags.

    The running sum is over rows, then over one row, never over the whole tensor.
    """
    size = flags.shape[0]
    rows = ops.reshape(ops.pad(ops.cast(flags, "int32"), ((0, -size % _ENTRIES_PER_ROW),)), (-1, _ENTRIES_PER_ROW))
    totals = ops.sum(rows, axis=1)
    full_rows = ops.sum(ops.cast(ops.cumsum(totals) <= count, "int32"))
    left = count - ops.sum(ops.where(_indices(rows) < full_rows, totals, 0))
    row = ops.sum(ops.where(ops.expand_dims(_indices(rows) == full_rows, 1), rows, 0), axis=0)
    end = full_rows * _ENTRIES_PER_ROW + ops.sum(ops.cast(ops.cumsum(row) <= left, "int32"))
    return ops.logical_and(flags, _indices(flags) < end)
