"""Masks from scores, in `keras.ops`: exact counts without a sort, the same on every backend and on both roads.

A mask is 1 where an entry is kept and 0 where it is pruned. Entries with a higher score are kept.

The k-th smallest score is found from its highest bits to its lowest, a few bits at a time: `by_histograms` on
TensorFlow, `by_comparison` under XLA. Both find the same. Of several tensors one is in work at a time. Its scores are
computed anew for each pass, so that they are never all in memory.

Public functions take a `sparsity`, a fraction in [0, 1). All other functions take counts: in a tensor of more than a
few million entries a float32 fraction does not give an exact count.
"""

import itertools
import math
import numbers
from collections.abc import Iterator

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import by_comparison, by_histograms, sort_keys, wide_counts
from tfsparse.masks.sort_keys import MAX_INT

MAX_SIZE = 2**30  # of one tensor: twice as many places of entries are told apart in int32


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
    (kept,) = prune_lowest(sort_keys.nonnegative([scores]), [num_pruned(sparsity, _size(scores))], [mask])
    return ops.cast(kept, scores.dtype)


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
    is_countable = isinstance(sparsity, numbers.Real) or sum(sizes) <= MAX_INT
    total = num_pruned(sparsity, sum(sizes)) if is_countable else [num_pruned(sparsity, n) for n in sizes]
    ones = [1] * len(sizes)
    limits = max_pruned_by_default(total, [n - 1 for n in sizes], ones)
    kept = prune_lowest_globally(sort_keys.nonnegative(scores), total, limits, ones, masks)
    return [ops.cast(k, s.dtype) for k, s in zip(kept, scores, strict=True)]


def largest_mask(scores, num_kept: int) -> Iterator:
    """Yield masks that keep the `num_kept` highest scores of all tensors together, and all ties at the last place.

    With ties more than `num_kept` entries are kept; `global_masks` counts exactly.

    Args:
        scores: Sequence of float tensors of any shape, >= 0. An item may be computed when it is asked for.
        num_kept: Number of entries, from 1 to all.

    Yields:
        One mask per tensor, of its shape and dtype: 1 is kept.

    Examples:
        >>> list(largest_mask([np.array([3.0, 1.0]), np.array([1.0, 0.5])], 2))
        [array([1., 1.]), array([1., 0.])]
    """
    if not len(scores):
        return
    sizes = np.array([_size(s) for s in scores])
    terms = wide_counts.terms(int(np.sum(sizes)) - num_kept)
    threshold, _, _ = _threshold(scores, terms, _Limits(None, sizes), np.ones_like(sizes))
    threshold = ops.cast(threshold, backend_ops.device_int())
    for s in scores:
        kept = sort_keys.integers(sort_keys.keys(s)) >= threshold
        yield ops.cast(ops.reshape(kept, s.shape), s.dtype)


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


def prune_lowest(scores, num_pruned, masks) -> list:
    """Return masks as `topk_mask` does, by counts.

    Args:
        scores: Tensors, >= 0.
        num_pruned: For each tensor the number of entries to prune, an int or an integer tensor. It may be all entries.
        masks: For each tensor the mask until now, or None.

    Returns:
        A list of uint8 tensors of the same shapes.
    """
    return [_mask(s, ops.cast(n, "int32"), mask) for s, n, mask in zip(scores, num_pruned, masks, strict=True)]


def _mask(scores, count, mask):
    return _mask_above(scores, ops.stack([count, 0, 0, 1]), mask)


def _mask_above(scores, numbers, mask):
    kept = _search().kept(_size(scores))
    flat = [] if mask is None else [ops.reshape(mask, (-1,))]
    return ops.reshape(kept(sort_keys.keys(scores), numbers, *flat), scores.shape)


def prune_lowest_together(scores, num_pruned, entries_per_unit, masks) -> list:
    """Return masks of units of several sizes that make the number of zeros nearest to a count.

    The lowest of all units are pruned, up to the few that are exchanged for the sake of the count.

    Args:
        scores: Tensors with one score per unit, >= 0. The units of a tensor have one size.
        num_pruned: Number of entries to prune in all tensors together, an int or an integer tensor.
        entries_per_unit: For each tensor the number of entries in a unit.
        masks: Masks of the units until now.

    Returns:
        A list of uint8 tensors of the same shapes.
    """
    sizes, count = np.array([_size(s) for s in scores]), ops.cast(num_pruned, "int32")
    found = _threshold(scores, wide_counts.terms(count), _Limits(None, sizes), entries_per_unit)
    counts = ops.unstack(_split_ties(wide_counts.terms(count), *found[1:], entries_per_unit))
    return prune_lowest(scores, nearest_counts(counts, count, sizes.tolist(), entries_per_unit, ops), masks)


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
        missed = xp.where(xp.logical_and(changed[i] >= 0, changed[i] <= limits[i]), missed, MAX_INT)
    cost = np.abs(moves) @ np.array([entries_per_unit[i] for i in rest], "int32")
    best = xp.argmin(xp.where(missed == xp.min(missed), cost, MAX_INT))
    return [xp.take(changed[i], best) for i in range(len(limits))]


def _moves(limits, ranges):
    """Return all combinations of small changes of some numbers, one per row."""
    spans = [range(-min(n, r), min(n, r) + 1) for n, r in zip(limits, ranges, strict=True)]
    return np.array(list(itertools.product(*spans)), "int32")


def prune_lowest_globally(
    scores, num_pruned, max_pruned_units, entries_per_unit, masks=None, min_pruned_units=None
) -> Iterator:
    """Yield masks of units as `global_masks` does, by counts, where a unit has several entries.

    If a unit does not fit into what is left of the count, smaller units of other tensors fill it up.

    Args:
        scores: Sequence of tensors with one score per unit, >= 0. An item may be computed when it is asked for: it is
            asked for once in each pass.
        num_pruned: Number of entries to prune in all tensors together: an int, an integer tensor, or a list of these
            whose sum is meant, so that it may have more than 31 bits.
        max_pruned_units: For each tensor the number of units that may be pruned.
        entries_per_unit: For each tensor the number of entries in a unit.
        masks: Sequence of the masks of the units until now. Default: None, all units were kept.
        min_pruned_units: For each tensor the number of units that are pruned in any case. Default: None, no unit.

    Yields:
        For each tensor a uint8 tensor of its shape.
    """
    terms, limits = wide_counts.terms(num_pruned), _Limits(min_pruned_units, max_pruned_units)
    threshold, below, ties = _threshold(scores, terms, limits, entries_per_unit)
    counts = _split_ties(terms, below, ties, entries_per_unit)
    if len(set(entries_per_unit)) > 1:  # each tensor has a threshold of its own
        counts = ops.stack(_filled_up(ops.unstack(counts), terms, limits, entries_per_unit))
        has_own = ops.ones_like(counts)
    else:
        has_own = ops.cast(limits.are_reached(counts), "int32")
    thresholds = ops.broadcast_to(threshold, has_own.shape)
    for i, row in enumerate(ops.unstack(ops.stack([counts, thresholds, below, has_own], axis=1))):
        yield _mask_above(scores[i], row, None if masks is None else masks[i])


def max_pruned_by_default(num_pruned, max_pruned_units, entries_per_unit):
    """Return how many units of each tensor may be pruned, so that none loses nearly all of them to one threshold.

        a tensor keeps at least a tenth of what it would keep if all had the same sparsity

    Args:
        num_pruned: Number of entries to prune in all tensors together, as in `prune_lowest_globally`.
        max_pruned_units: For each tensor the number of units that could be pruned.
        entries_per_unit: For each tensor the number of entries in a unit.

    Returns:
        An int32 tensor with one number per tensor.
    """
    limits = np.array(max_pruned_units, "int64")
    prunable = float(np.sum(limits * np.array(entries_per_unit, "int64")))
    kept_fraction = 1.0 - ops.sum(ops.cast(wide_counts.terms(num_pruned), "float32")) / prunable
    return limits.astype("int32") - ops.cast(kept_fraction * (limits / 10).astype("float32"), "int32")


def _search():
    # asked at each call: a traced function would remember the answer
    return by_comparison if backend_ops.histograms_are_slow() else by_histograms


def _size(tensor) -> int:
    return math.prod(tensor.shape)


class _Limits:
    """The numbers of units between which each tensor is pruned.

    Args:
        least: One per tensor, or None.
        most: One per tensor.
    """

    def __init__(self, least, most):
        self.least, self.most = (None if n is None else wide_counts.as_vector(n) for n in (least, most))

    def clip(self, counts):
        """Return the counts, raised and lowered to the limits; one row per tensor."""
        shape = (-1,) + (1,) * (len(counts.shape) - 1)
        counts = counts if self.least is None else ops.maximum(counts, ops.reshape(self.least, shape))
        return ops.minimum(counts, ops.reshape(self.most, shape))

    def are_reached(self, counts):
        """Return whether each tensor is at one of its limits."""
        at_most = counts >= self.most
        if self.least is None:
            return at_most
        return ops.logical_or(at_most, ops.logical_and(counts <= self.least, self.least > 0))


def _threshold(scores, terms, limits, entries_per_unit):
    """Find the largest key T with `sum(entries_per_unit * number of keys < T, within limits) <= sum(terms)`.

    Returns:
        T; for each tensor the number of units below T, within its limits; and the number of units at T beyond those.
    """

    def fits(below):
        return _left(limits.clip(below), terms, entries_per_unit)[0] >= 0

    threshold, below, equal = _search().common_threshold(scores, fits)
    pruned = limits.clip(below)
    return threshold, pruned, limits.clip(below + equal) - pruned


def _left(pruned, terms, entries_per_unit):
    """Return how many entries are left to prune when these units of each tensor are, as a wide count."""
    entries = np.array(entries_per_unit, "int32").reshape((-1,) + (1,) * (len(pruned.shape) - 1))
    return wide_counts.add(-pruned * entries, *wide_counts.add(terms))


def _split_ties(terms, below, ties, entries_per_unit):
    """Return how many units each tensor loses: all below the threshold, and ties from the last tensor backwards."""
    entries = np.array(entries_per_unit, "int32")
    both = zip(_left(below, terms, entries), wide_counts.sums_after(ties * entries), strict=True)
    left = wide_counts.narrow(*wide_counts.carried(*(all_ties - later for all_ties, later in both)))
    return below + ops.minimum(ops.floor_divide(left, entries), ties)


def _filled_up(counts, terms, limits, entries_per_unit):
    """Add units of falling size to the counts while they fit; of the smallest size also one that fits by half."""
    left, most = _left(ops.stack(counts), terms, entries_per_unit), ops.unstack(limits.most)
    by_size = sorted(range(len(counts)), key=lambda i: -entries_per_unit[i])
    for i in by_size:
        size = entries_per_unit[i]
        half = size // 2 if size == min(entries_per_unit) else 0
        fits = ops.floor_divide(ops.minimum(wide_counts.narrow(*left), MAX_INT - half) + half, size)
        added = ops.clip(fits, 0, most[i] - counts[i])
        left = wide_counts.add(ops.stack([-added * size]), *left)
        counts[i] = counts[i] + added
    return counts
