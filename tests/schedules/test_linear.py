import numpy as np

from tfsparse.schedules import Linear


def test_formula():
    t = np.linspace(0, 1, 41)
    np.testing.assert_allclose(Linear()(t), t, atol=1e-5)
