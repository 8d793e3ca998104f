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
