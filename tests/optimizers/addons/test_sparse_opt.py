"""SparseOpt: the factor of each unit."""

import numpy as np
from keras import ops

import tfsparse


def scaled(gradient, mask):
    gradient = ops.convert_to_tensor(np.array(gradient, "float32"))
    mask = ops.convert_to_tensor(np.array(mask, "uint8"))
    return ops.convert_to_numpy(tfsparse.SparseOpt().gradient(gradient, mask))


def test_golden_factors():
    """Densities 1 and 1/4 of two units, in the mean 5/8."""
    mask = [[1, 1], [1, 0], [1, 0], [1, 0]]
    factors = np.sqrt([8 / 5, 2 / 5])
    np.testing.assert_allclose(scaled(np.ones((4, 2)), mask), np.tile(factors, (4, 1)), rtol=1e-6)


def test_units_of_one_density_keep_their_gradients():
    gradient = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(scaled(gradient, [[1, 0], [0, 1], [1, 0], [0, 1]]), gradient)
    np.testing.assert_array_equal(scaled(gradient, np.ones((4, 2))), gradient)


def test_a_unit_without_living_weights_keeps_its_gradient():
    """Living weights are 4, 0 and 2; the mean is 2."""
    mask = np.array([[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(scaled(np.ones((4, 3)), mask)[0], [np.sqrt(2), 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(scaled(np.ones((4, 3)), 0 * mask), np.ones((4, 3)))


def test_convolutions_equal_the_reference():
    random = np.random.default_rng(0)
    mask, gradient = random.integers(0, 2, (3, 3, 4, 5)), random.normal(size=(3, 3, 4, 5))
    density = np.array([np.mean(mask[..., j]) for j in range(5)])
    expected = np.stack([gradient[..., j] * np.sqrt(density[j] / density.mean()) for j in range(5)], axis=-1)
    np.testing.assert_allclose(scaled(gradient, mask), expected, rtol=1e-5)


def test_a_bias_is_left_as_it_is():
    np.testing.assert_array_equal(scaled([1.0, 2.0], [1, 0]), [1.0, 2.0])
