import numpy as np
import pytest
import reference

from tfsparse.methods.pll.budget import num_within_budget

RANDOM = np.random.default_rng(0)


def test_golden_num_within_budget():
    weights = [np.array([3.0, -1.0], "float32"), np.array([[2.0, 0.5]], "float32")]
    masks = [np.ones(2), np.ones((1, 2))]
    budgets, expected = [-1, 0, 0.25, 1.24, 1.25, 5.25, 14.24, 14.25, 1e9], [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert [num_within_budget(weights, budget, masks) for budget in budgets] == expected
    assert num_within_budget(weights, 1.0, [np.ones(2), np.array([[1.0, 0.0]])]) == 1  # pruned: free
    assert num_within_budget(weights, float("inf"), masks) == 4
    assert num_within_budget(weights, float("nan"), masks) == 0


@pytest.mark.parametrize("kind", ["normal", "ties", "tiny", "zeros"])
def test_num_within_budget_equals_a_sort(kind):
    for size in (5, 100, 3001):
        weights = [RANDOM.normal(size=n).astype("float32") for n in (size, 2 * size)]
        masks = [(RANDOM.random(w.size) > 0.4).astype("float32") for w in weights]
        if kind == "ties":
            weights = [np.round(w * 2).astype("float32") / 2 for w in weights]  # sums of their squares are exact
        if kind == "tiny":
            weights = [w * np.float32(1e-12) for w in weights]
        if kind == "zeros":
            weights = [w * (w > 0) for w in weights]
        total = sum(np.sum(w.astype("float64") ** 2 * m) for w, m in zip(weights, masks, strict=True))
        for fraction in (0.0, 1e-3, 0.1, 0.5, 0.97, 1.1):
            result = num_within_budget(weights, fraction * total, masks)
            expected = reference.num_within_budget(weights, fraction * total, masks)
            assert abs(result - expected) <= (0 if kind == "ties" else 1)  # sums in float32 may miss by one weight
