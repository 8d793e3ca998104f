"""HAM: the exponent, its limits, and where it is not applied."""

import math

import numpy as np
import pytest
from keras import ops

import tfsparse

WEIGHT = [[1.0, -1.0], [2.0, 0.0]]
GRADIENT = [[-1.0, -1.0], [0.0, 5.0]]


def ham(weight, gradient, mask, rate, **options):
    tensors = [ops.convert_to_tensor(np.array(values, "float32")) for values in (weight, gradient)]
    mask, rate = ops.convert_to_tensor(np.array(mask, "uint8")), ops.convert_to_tensor(np.float32(rate))
    return ops.convert_to_numpy(tfsparse.HAM(**options).weight(*tensors, mask, rate))


def test_golden_step():
    """Rate 0.5, alpha 2, beta 0: a gradient against the sign of the weight makes it larger by e, along it smaller."""
    expected = [[math.e, -1 / math.e], [2.0, 0.0]]
    np.testing.assert_allclose(ham(WEIGHT, GRADIENT, np.ones((2, 2)), 0.5, alpha=2.0, beta=0.0), expected, rtol=1e-6)


def test_beta_shrinks_all_living_weights():
    shrunk = math.exp(-0.5 * 4.0)
    expected = [[shrunk, -shrunk], [2 * shrunk, 0.0]]
    np.testing.assert_allclose(ham(WEIGHT, GRADIENT, np.ones((2, 2)), 0.5, alpha=0.0, beta=4.0), expected, rtol=1e-6)


def test_pruned_entries_are_left_as_they_are():
    """What the optimizer has written there is masked afterwards."""
    found = ham(WEIGHT, GRADIENT, [[0, 1], [0, 1]], 0.5, alpha=2.0, beta=1.0)
    np.testing.assert_array_equal(found[:, 0], [1.0, 2.0])
    assert found[0, 1] != -1.0 and found[1, 1] == 0.0


def test_exponents_are_limited():
    """Also an infinite gradient gives a factor of e^5 or e^-5, so no sign changes and nothing becomes infinite."""
    found = ham([[1.0, -1.0, 1.0]], [[-1e30, -1e30, math.inf]], [[1, 1, 1]], 1.0)
    np.testing.assert_allclose(found, [[math.exp(5), -math.exp(-5), math.exp(-5)]], rtol=1e-6)


def test_a_bias_is_left_as_it_is():
    np.testing.assert_array_equal(ham([1.0, 2.0], [1.0, 1.0], [1, 1], 0.5), [1.0, 2.0])


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"beta": math.nan}, {"alpha": "20"}, {"beta": True}])
def test_bad_options(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"^HAM got {name}=.*: expected a number >= 0, for example {name}="):
        tfsparse.HAM(**options)
