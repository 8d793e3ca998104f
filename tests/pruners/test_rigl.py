import keras
import numpy as np
import pytest
from keras import ops

from tfsparse import RigL, SparseOptimizer

MASK = [[1, 1], [0, 0]]


def step(inner, gradient):
    """Make one step with RigL that drops one of the weights 4 and 1; return the weights, momenta and mask."""
    w = keras.Variable(np.array([[4.0, 1.0], [0.0, 0.0]], "float32"), name="kernel")
    rigl = RigL(allocation="uniform", drop_fraction=0.5)
    optimizer = SparseOptimizer(inner, "constant", 0.5, rigl, total_steps=10_000)
    optimizer.build([w])
    optimizer.mask(w).assign(MASK)
    inner.momentums[0].assign([[0, 0], [3, 3]])  # as between two updates
    optimizer.apply([ops.convert_to_tensor(np.array(gradient, "float32"))], [w])
    return [ops.convert_to_numpy(v) for v in (w, inner.momentums[0], optimizer.mask(w))]


OPTIONS = [{}, {"global_clipnorm": 100.0}, {"use_ema": True}]  # the latter two must not see gradients of pruned weights


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_golden_the_largest_gradient_grows_from_zero(options):
    inner = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    weight, momentum, mask = step(inner, [[1, 0], [2, -5]])
    np.testing.assert_array_equal(mask, [[1, 0], [0, 1]])
    np.testing.assert_allclose(weight, [[3.9, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(momentum[1], [0, 0])


def test_golden_a_weight_that_is_dropped_and_grows_again_keeps_its_value():
    weight, momentum, mask = step(keras.optimizers.SGD(0.1, momentum=0.9), [[0, 7], [2, -5]])
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_allclose(weight, [[4, 0.3], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(momentum, [[0, -0.7], [0, 0]], rtol=1e-6)
