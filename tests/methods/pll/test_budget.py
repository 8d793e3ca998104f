import numpy as np
import pytest
import reference

from tfsparse.methods.pll.budget import num_within_budget

RANDOM = np.random.default_rng(0)


def test_golden_num_within_budget():
    weights = [np.array([3.0, -1.0], "float32"), np.array([[2.0, 0.5]], "float32")]
    masks = [np.ones(2), np.ones((1, 2))]
    budgets, expected = [-1, 0, 0.25, 1.24, 1.25, 5.25, 14.24, 14.25, 1e9], [0, 0, 1, 1, 2, 3, 3, 4, 4]
    sums = [0, 0.25, 1.25, 5.25, 14.25]
    assert [num_within_budget(weights, b, masks) for b in budgets] == [(n, sums[n]) for n in expected]
    at_most = [num_within_budget(weights, 6.0, masks, most) for most in range(5)]
    assert at_most == [(n, sums[n]) for n in (0, 1, 2, 3, 3)]
    assert num_within_budget(weights, 1.0, [np.ones(2), np.array([[1.0, 0.0]])]) == (1, 1.0)  # pruned: free
    assert num_within_budget(weights, float("inf"), masks) == (4, 14.25)
    assert num_within_budget(weights, float("nan"), masks) == (0, 0.0)


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
        tolerance = 0 if kind == "ties" else 1  # sums in float32 may miss by one weight
        for fraction in (0.0, 1e-3, 0.1, 0.5, 0.97, 1.1):
            for most in (None, 0, size // 2):
                result, squares = num_within_budget(weights, fraction * total, masks, most)
                expected, sums = reference.num_within_budget(weights, fraction * total, masks, most)
                assert abs(result - expected) <= tolerance
                assert squares == pytest.approx(sums[result], rel=1e-5)
