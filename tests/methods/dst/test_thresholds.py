import keras
import numpy as np
import pytest
from keras import ops

from tfsparse.methods.dst import thresholds


def array(values):
    return ops.convert_to_tensor(np.array(values, "float32"))


def test_golden_surrogate():
    """The authors' layer, executed (dst.md 3.6)."""
    x = [-1.2, -1, -0.7, -0.4, -0.3, 0, 0.1, 0.4, 0.4001, 1, 1.0001]
    golden = [0, 0.4, 0.4, 0.4, 0.8, 2, 1.6, 0.4, 0.4, 0.4, 0]
    np.testing.assert_allclose(thresholds.surrogate(array(x)), golden, atol=1e-6)


def test_a_weight_at_its_threshold_is_pruned():
    np.testing.assert_array_equal(thresholds.mask(array([[0.5], [-0.5], [0.6]]), array([[0.5]])), [[0], [0], [1]])


def test_golden_masked_kernel():
    kernel, threshold = array([[0.5, 0.05], [-0.1, -0.8], [0.3, 0.2]]), array([[0.2, 0.1]])
    np.testing.assert_array_equal(thresholds.mask(kernel, threshold), [[1, 0], [0, 1], [1, 1]])
    np.testing.assert_allclose(thresholds.masked(kernel, threshold), [[0.5, 0], [0, -0.8], [0.3, 0.2]])


def test_the_penalty_is_a_sum():
    np.testing.assert_allclose(thresholds.penalty(array([[0.0, np.log(2)]])), 1.5, rtol=1e-6)


@pytest.mark.parametrize(("floor", "expected"), [(0.25, [[0, 0]]), (0.24, [[2, 0.1]])])
def test_thresholds_are_reset_where_at_most_the_floor_is_kept(floor, expected):
    """Two of eight weights are kept."""
    kernel = array([[1, 0.05], [1, 0.05], [1, 0.5], [1, 0.5]])
    np.testing.assert_allclose(thresholds.reset(array([[2, 0.1]]), kernel, floor), expected)


def test_thresholds_above_all_weights_are_reset():
    kernel = array([[0.5, 0.05], [-0.1, -0.8]])
    np.testing.assert_array_equal(thresholds.reset(array([[10, 10]]), kernel, 0.01), [[0, 0]])


def test_after_the_cut_exactly_the_mask_is_kept():
    """Column 0: the threshold is above what shall live and falls below it. Column 1: below 0, where zeros would live,
    and rises to 0. Column 2: nothing lives."""
    kernel = array([[0.5, 0.2, 0.3], [-0.1, 0.1, 0.4], [0.3, -0.6, 0.1]])
    threshold, mask = array([[0.4, -1, 0.05]]), array([[1, 1, 0], [0, 0, 0], [1, 1, 0]])
    new, limit = thresholds.cut(kernel, threshold, mask)
    np.testing.assert_array_equal(new, np.array(kernel) * np.array(mask))
    np.testing.assert_array_equal(thresholds.mask(new, limit), mask)
    np.testing.assert_allclose(limit, [[0.2997, 0, 0.05]], rtol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), [("scalar", (1, 1, 1)), ("vector", (1, 4, 1)), ("matrix", (3, 4, 5))])
def test_there_is_one_threshold_per_kernel_unit_or_weight(kind, shape):
    assert thresholds.threshold_shape(kind, (3, 4, 5), output_axes=(1,)) == shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("row", 0.1, None), "expected one of 'scalar', 'vector', 'matrix'"),
        (("vector", -1, None), "a number >= 0, for example alpha=5e-4"),
        (("vector", "high", None), "a number >= 0"),
        (("vector", float("nan"), None), "a number >= 0"),
        (("vector", 0.1, 1.0), r"a fraction of living weights in \[0, 1\)"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        thresholds.check_options(*options)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless asked")
def test_float64_stays_float64():
    x = ops.convert_to_tensor(np.array([0.7]), "float64")
    np.testing.assert_allclose(thresholds.surrogate(x), [0.4], rtol=1e-12)
