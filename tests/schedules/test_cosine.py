import numpy as np

from tfsparse.schedules import Cosine


def test_formula():
    t = np.linspace(0, 1, 41)
    np.testing.assert_allclose(Cosine()(t), (1 + np.cos(np.pi * (1 - t))) / 2, atol=1e-5)
