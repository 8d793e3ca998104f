import numpy as np
import pytest

from tfsparse.schedules import OneCycle


@pytest.mark.parametrize(
    ("beta", "golden"),
    [
        (5, [0.006694, 0.026600, 0.099763, 0.310064, 0.645736, 0.880906, 0.967824, 0.991960, 0.998098, 0.999623, 1]),
        (6, [0.002473, 0.009955, 0.039179, 0.141899, 0.401447, 0.731304, 0.917135, 0.978447, 0.994847, 0.998976, 1]),
    ],
)
def test_golden(beta, golden):
    """The column for beta=5 is the output of the authors' code."""
    np.testing.assert_allclose(OneCycle(beta=beta)(np.linspace(0, 1, 11)), golden, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"alpha": -1}, {"alpha": 0}, {"alpha": np.nan}, {"alpha": np.inf}, {"beta": np.nan}, {"beta": 1000}]
)
def test_what_gives_no_rising_curve_is_refused(options):
    with pytest.raises(ValueError, match=r"expected finite numbers with alpha > 0 and beta < alpha \+ 88"):
        OneCycle(**options)


def test_a_steep_curve_is_finite():
    assert np.isfinite(OneCycle(alpha=1000, beta=1080)(np.linspace(0, 1, 11))).all()
