import numpy as np
import pytest
from keras import ops

from tfsparse import pruners, testing

WEIGHTS = [np.array([[1.0, 2.0], [3.0, 8.0]], "float32"), np.array([[4.0, 6.0]], "float32")]
GRADIENTS = [np.array([[8.0, 0.0], [2.0, 0.0]], "float32"), np.array([[-1.0, 9.0]], "float32")]
ONES = [np.ones_like(w) for w in WEIGHTS]
# |w| = 1 2; 3 8 | 4 6, together 24   |w g| = 8 0; 6 0 | 4 54, together 72   |g| = 8 0; 2 0 | 1 9, together 20
SCORES = [
    [0.553, 0.083, 0.308, 0.333, 0.273, 1.45],
    [0.042, 0.083, 0.125, 0.333, 0.167, 0.25],
    [0.4, 0, 0.1, 0, 0.05, 0.45],
]


def masks(pruner, num_pruned, before=ONES):
    found = pruner.masks(WEIGHTS, GRADIENTS, before, num_pruned)
    return [ops.convert_to_numpy(mask).tolist() for mask in found]


@pytest.mark.parametrize(
    ("options", "scores"),
    [({}, SCORES[0]), ({"connection": 0, "convergence": 0}, SCORES[1]), ({"magnitude": 0, "connection": 0}, SCORES[2])],
)
def test_golden_scores_with_the_sums_of_all_layers(options, scores):
    for num_pruned in range(1, 5):  # a weight keeps one entry
        lowest = sorted(range(6), key=lambda i: (scores[i], -i))[:num_pruned]
        flat = [float(i not in lowest) for i in range(6)]
        assert masks(pruners.DRIVE(**options), [num_pruned - 1, 1]) == [[flat[:2], flat[2:4]], [flat[4:]]]


def test_counts_are_exact_outside_of_a_compiled_step():
    """On JAX the search is compiled anyway: there the sum of three terms was rounded in another way."""
    for seed in range(25):
        random = np.random.default_rng(seed)
        weights, gradients = (
            [random.normal(size=shape).astype("float32") for shape in ((16, 50), (2, 2, 20, 10))] for _ in range(2)
        )
        found = pruners.DRIVE().masks(weights, gradients, [np.ones_like(w) for w in weights], [480, 480])
        assert sum(int(ops.sum(ops.cast(mask, "int32"))) for mask in found) == 2 * 800 - 960


def test_golden_with_the_sums_of_each_layer():
    """Of the first layer |w| is divided by 14, |w g| by 14 and |g| by 10: 1.44, 0.14; 0.84, 0.57."""
    assert masks(pruners.DRIVE(scope="layer"), [2, 1]) == [[[1, 0], [1, 0]], [[0, 1]]]


def test_pruned_weights_stay_and_are_not_in_the_sums():
    """Without the first weight |g| sums to 11 instead of 19, so the second has more than the fourth."""
    before = [np.array([[0.0, 1.0], [1.0, 1.0]], "float32"), ONES[1]]
    weights = [WEIGHTS[0] * before[0], np.array([[3.0, 9.0]], "float32")]
    weights[0][1, 1] = 5.0
    gradients = [np.array([[8.0, 2.0], [0.0, 0.0]], "float32"), np.array([[0.0, 9.0]], "float32")]
    found = pruners.DRIVE(connection=0).masks(weights, gradients, before, [3, 1])
    # 2/22 + 2/11 = 0.273; 3/22 = 0.136, 5/22 = 0.227; 3/22 = 0.136, 9/22 + 9/11
    assert [ops.convert_to_numpy(m).tolist() for m in found] == [[[0, 1], [0, 0]], [[0, 1]]]


@pytest.mark.parametrize("options", [{"magnitude": -1.0}, {"magnitude": 0, "connection": 0, "convergence": 0}])
def test_factors_are_not_negative_and_not_all_zero(options):
    with pytest.raises(ValueError, match=r"DRIVE got magnitude=.*: expected numbers >= 0 of which one is not 0"):
        pruners.DRIVE(**options)


def test_drive_passes_the_checks_outside_training():
    for options in ({}, {"scope": "layer"}, {"granularity": "channel"}):
        testing.check_config(pruners.DRIVE(**options))
        testing.check_exact_count_with_ties(pruners.DRIVE(**options))
        testing.check_monotone(pruners.DRIVE(**options))
