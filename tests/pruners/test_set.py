import numpy as np
from keras import ops

from tfsparse import SET

MASK = np.tile([1.0, 0.0, 0.0, 0.0], (100, 1)).astype("float32")


def masks(pruner, step, num_weights=1):
    weights, gradients, counts = [MASK] * num_weights, [None] * num_weights, [300] * num_weights
    return [ops.convert_to_numpy(m) for m in pruner.at_step(step, 100).masks(weights, gradients, weights, counts)]


def test_masks_differ_at_every_update_and_are_the_same_at_the_same_step():
    first, again, later, other = (masks(p, s)[0] for p, s in ((SET(), 1), (SET(), 1), (SET(), 2), (SET(seed=1), 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)


def test_weights_of_one_shape_grow_at_different_entries():
    first, second = masks(SET(), 1, num_weights=2)
    assert not np.array_equal(first, second)


def test_all_entries_grow_equally_often():
    grown = sum(masks(SET(), step)[0] * (1 - MASK) for step in range(1, 41))  # 40 times 30 or fewer of 300
    total = grown.sum()
    assert 600 < total < 1200
    np.testing.assert_allclose(grown.sum(0)[1:] / total, 1 / 3, atol=0.06)
    np.testing.assert_allclose(grown.reshape(4, 25, 4).sum((1, 2)) / total, 1 / 4, atol=0.06)
