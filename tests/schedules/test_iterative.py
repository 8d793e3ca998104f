import numpy as np
import pytest

from tfsparse.schedules import Iterative


def test_golden_printed_by_the_authors():
    """In per cent for a target of 95 %. The value at an epoch's end is that of its last iteration, just before t."""
    golden = [0, 0, 31.67, 31.67, 63.33, 63.33, 63.33, 95, 95, 95]
    np.testing.assert_allclose(95 * Iterative(steps=3, start=0.2)(np.linspace(0.1, 1, 10) - 1e-3), golden, atol=0.005)


def test_formula():
    t = np.linspace(0, 1, 41)
    p = np.maximum((t - 0.2) / 0.8, 0)
    np.testing.assert_allclose(Iterative()(t), np.ceil(np.round(p * 3, 9)) / 3, atol=1e-5)


def test_the_number_of_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps=0: expected a positive integer"):
        Iterative(steps=0)
