"""References in plain NumPy for what the package computes: slow, short, written independently of the package."""

import numpy as np


def num_pruned(sparsity, size):
    """Return how many entries are pruned."""
    return min(round(sparsity * size), size - 1)


def topk_mask(scores, sparsity, mask=None):
    """Sort all scores. Ties: entries that were kept come first, then those with a lower index."""
    flat = np.asarray(scores, "float32").ravel()
    kept = np.ones(flat.size) if mask is None else np.asarray(mask).ravel()
    order = sorted(range(flat.size), key=lambda i: (flat[i], kept[i], -i))
    result = np.ones(flat.size)
    result[order[: num_pruned(sparsity, flat.size)]] = 0
    return result.reshape(np.shape(scores))


def global_masks(scores, sparsity):
    """Sort the entries of all tensors together, without those that a tensor keeps in any case."""
    sizes = [s.size for s in scores]
    total = num_pruned(sparsity, sum(sizes))
    kept = np.float32(1) - np.float32(total) / np.float32(sum(n - 1 for n in sizes))
    candidates = []
    for tensor, s in enumerate(scores):
        flat = s.ravel()
        always_kept = 1 + int(kept * np.float32((s.size - 1) / 10))
        for i in sorted(range(s.size), key=lambda i: (flat[i], -i))[: s.size - always_kept]:
            candidates.append((flat[i], -tensor, -i))
    result = [np.ones(n) for n in sizes]
    for _, tensor, i in sorted(candidates)[:total]:
        result[-tensor][-i] = 0
    return [r.reshape(s.shape) for r, s in zip(result, scores, strict=True)]


def masks_within_bounds(scores, total, least, largest):
    """Prune the least number of each tensor, then the lowest of all others up to the largest number of each."""
    orders = [sorted(range(s.size), key=lambda i, s=s: (s[i], -i)) for s in scores]
    pruned = [order[:n] for order, n in zip(orders, least, strict=True)]
    rest = [(scores[t][i], -t, -i) for t, order in enumerate(orders) for i in order[least[t] : largest[t]]]
    for _, tensor, i in sorted(rest)[: total - sum(least)]:
        pruned[-tensor].append(-i)
    return [np.array([i not in indices for i in range(s.size)], int) for s, indices in zip(scores, pruned, strict=True)]


def n_of_m(scores, n, m):
    """Keep N of every M along the last axis but one. An incomplete group stays dense."""
    result = np.ones_like(scores)
    groups = scores.shape[-2] // m
    for index in np.ndindex(*scores.shape[:-2], groups, scores.shape[-1]):
        *head, group, out = index
        where = (*head, slice(group * m, (group + 1) * m), out)
        lowest = sorted(range(m), key=lambda i: (scores[where][i], -i))[: m - n]
        result[where] = [0 if i in lowest else 1 for i in range(m)]
    return result


def num_within_budget(weights, budget, masks, most=None):
    """Sort the magnitudes that are not pruned and add their squares until the budget is used up; and all the sums."""
    magnitudes = np.concatenate([np.abs(w[m > 0]) for w, m in zip(weights, masks, strict=True)])
    sums = np.cumsum(np.sort(magnitudes.astype("float64")) ** 2)
    number = int(np.sum(sums <= budget))
    return number if most is None else min(number, most), np.concatenate([[0.0], sums])


def drop_and_grow(weight, growth, mask, sparsity, fraction):
    """Sort the weights that are not pruned by magnitude, all other entries by growth."""
    w, g, m = np.abs(weight).ravel(), np.ravel(growth), np.ravel(mask)
    n = w.size - num_pruned(sparsity, w.size)
    kept = sorted(np.flatnonzero(m), key=lambda i: (-w[i], i))[: n - int(fraction * n + 1e-9)]
    others = sorted(set(range(w.size)) - set(kept), key=lambda i: (-g[i], -m[i], i))
    result = np.zeros(w.size)
    result[[*kept, *others[: n - len(kept)]]] = 1
    return result.reshape(np.shape(weight))


def feather(weights, masks):
    """The paper's formula in float64. A layer that keeps weights below the common threshold has its own."""
    tau = max(np.max(np.abs(w)[m == 0], initial=0) for w, m in zip(weights, masks, strict=True))
    result = []
    for w, m in zip(weights, masks, strict=True):
        own = tau if np.all(np.abs(w)[m > 0] >= tau) else np.max(np.abs(w)[m == 0], initial=0)
        result.append(np.sign(w) * np.cbrt(np.maximum(np.abs(w).astype("float64") ** 3 - np.float64(own) ** 3, 0)) * m)
    return result


def possible_counts(parts):
    """Return all numbers of entries that units have together: `parts` are pairs of their number and their size."""
    counts = {0}
    for number, size in parts:
        counts = {count + n * size for count in counts for n in range(number + 1)}
    return counts
