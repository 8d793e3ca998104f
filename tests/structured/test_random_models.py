"""The generator: the same graphs for the same seeds, and among them all that shrinking must meet."""

import numpy as np
from structured import random_models


def test_equal_seeds_give_equal_models():
    one, two = (random_models.random_model(3) for _ in range(2))
    assert random_models.describe(one) == random_models.describe(two)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_are_nobodys_defaults():
    models = [random_models.random_model(seed) for seed in range(4)]
    statistics = [v.numpy() for m in models for v in m.variables if v.name in ("moving_mean", "moving_variance")]
    assert statistics
    assert all(np.ptp(s) > 0 for s in statistics)
