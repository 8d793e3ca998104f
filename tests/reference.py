"""What the package computes, in plain NumPy: slow, short, and written without looking at the package."""

import numpy as np


def count(sparsity, size):
    """How many entries are pruned."""
    return min(round(sparsity * size), size - 1)


def topk_mask(scores, sparsity, mask=None):
    """Sort everything; ties: living before pruned, then lower index."""
    flat = np.asarray(scores, "float32").ravel()
    alive = np.ones(flat.size) if mask is None else np.asarray(mask).ravel()
    order = sorted(range(flat.size), key=lambda i: (flat[i], alive[i], -i))
    result = np.ones(flat.size)
    result[order[: count(sparsity, flat.size)]] = 0
    return result.reshape(np.shape(scores))


def global_masks(scores, sparsity):
    """Sort all tensors' entries together, after setting aside what every tensor must keep."""
    sizes = [s.size for s in scores]
    total = count(sparsity, sum(sizes))
    kept = np.float32(1) - np.float32(total) / np.float32(sum(n - 1 for n in sizes))
    candidates = []
    for tensor, s in enumerate(scores):
        flat = s.ravel()
        floor = int(kept * np.float32((s.size - 1) / 10))
        for i in sorted(range(s.size), key=lambda i: (flat[i], -i))[: s.size - 1 - floor]:
            candidates.append((flat[i], -tensor, -i))
    result = [np.ones(n) for n in sizes]
    for _, tensor, i in sorted(candidates)[:total]:
        result[-tensor][-i] = 0
    return [r.reshape(s.shape) for r, s in zip(result, scores, strict=True)]


def n_of_m(scores, n, m):
    """N of every M along the second-last axis; an incomplete group stays dense."""
    result = np.ones_like(scores)
    groups = scores.shape[-2] // m
    for index in np.ndindex(*scores.shape[:-2], groups, scores.shape[-1]):
        *head, group, out = index
        where = (*head, slice(group * m, (group + 1) * m), out)
        losers = sorted(range(m), key=lambda i: (scores[where][i], -i))[: m - n]
        result[where] = [0 if i in losers else 1 for i in range(m)]
    return result


def num_within_budget(weights, budget, masks):
    """Sort all living magnitudes and add their squares until the budget is spent."""
    living = np.concatenate([np.abs(w[m > 0]) for w, m in zip(weights, masks, strict=True)])
    return int(np.sum(np.cumsum(np.sort(living.astype("float64")) ** 2) <= budget))


def drop_and_grow(weight, growth, mask, sparsity, fraction):
    """Sort the living by size and all others by growth; ties: living before pruned, then lower index."""
    w, g, alive = np.abs(weight).ravel(), np.ravel(growth), np.ravel(mask)
    n = w.size - count(sparsity, w.size)
    kept = sorted(np.flatnonzero(alive), key=lambda i: (-w[i], i))[: n - int(fraction * n + 1e-9)]
    others = sorted(set(range(w.size)) - set(kept), key=lambda i: (-g[i], -alive[i], i))
    result = np.zeros(w.size)
    result[[*kept, *others[: n - len(kept)]]] = 1
    return result.reshape(np.shape(weight))


def feather(weights, masks):
    """The formula as the paper writes it, in float64; `weights` compete, and a layer may be at its floor."""
    tau = max(np.max(np.abs(w)[m == 0], initial=0) for w, m in zip(weights, masks, strict=True))
    result = []
    for w, m in zip(weights, masks, strict=True):
        own = tau if np.all(np.abs(w)[m > 0] >= tau) else np.max(np.abs(w)[m == 0], initial=0)
        result.append(np.sign(w) * np.cbrt(np.maximum(np.abs(w).astype("float64") ** 3 - np.float64(own) ** 3, 0)) * m)
    return result
