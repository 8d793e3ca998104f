import numpy as np
from keras import ops

from tfsparse import SET

MASK = np.tile([1.0, 0.0, 0.0, 0.0], (100, 1)).astype("float32")


def masks(pruner, step, places=1):
    new = pruner.at_step(step, 100).masks([MASK] * places, [None] * places, [MASK] * places, [300] * places)
    return [ops.convert_to_numpy(m) for m in new]


def test_draws_anew_at_every_update_and_the_same_again_at_the_same_step():
    first, again, later, other = (masks(p, s)[0] for p, s in ((SET(), 1), (SET(), 1), (SET(), 2), (SET(seed=1), 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)


def test_weights_of_one_shape_grow_in_different_places():
    first, second = masks(SET(), 1, places=2)
    assert not np.array_equal(first, second)


def test_grows_everywhere_alike():
    grown = sum(masks(SET(), step)[0] * (1 - MASK) for step in range(1, 41))  # 40 times 30 or fewer of 300
    total = grown.sum()
    assert 600 < total < 1200
    np.testing.assert_allclose(grown.sum(0)[1:] / total, 1 / 3, atol=0.06)
    np.testing.assert_allclose(grown.reshape(4, 25, 4).sum((1, 2)) / total, 1 / 4, atol=0.06)
