import numpy as np

from tfsparse.schedules import DSD


def test_formula():
    """Half a cosine up, half a cosine down."""
    t = np.linspace(0, 1, 41)
    up = (1 + np.cos(np.pi * (1 - 2 * t))) / 2
    down = 1 - (1 - np.cos(np.pi * (1 - 2 * t))) / 2
    np.testing.assert_allclose(DSD()(t), np.where(t < 0.5, up, down), atol=1e-5)


def test_ends_dense():
    assert DSD()(1.0) == DSD.final == 0.0
