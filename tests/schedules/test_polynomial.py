import numpy as np
import pytest

from tfsparse.schedules import Polynomial


def test_golden_printed_by_the_authors():
    """Their sparsities at the ends of 10 epochs, in per cent, for a target of 95 %."""
    golden = [0, 0, 31.36, 54.92, 71.81, 83.12, 89.99, 93.52, 94.81, 95.00]
    np.testing.assert_allclose(95 * Polynomial(start=0.2)(np.linspace(0.1, 1, 10)), golden, atol=0.005)


def test_formula():
    t = np.linspace(0, 1, 41)
    p = np.maximum((t - 0.2) / 0.8, 0)
    np.testing.assert_allclose(Polynomial()(t), 1 - (1 - p) ** 3, atol=1e-5)


@pytest.mark.parametrize("power", [0, -1, np.nan, np.inf])
def test_what_gives_no_rising_curve_is_refused(power):
    with pytest.raises(ValueError, match="expected a number above 0"):
        Polynomial(power)
