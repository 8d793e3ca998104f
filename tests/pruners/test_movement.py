import numpy as np
from keras import ops

from tfsparse import pruners, testing


def mask(pruner, weight, gradient, num_pruned, mask_before=None):
    before = np.ones_like(weight) if mask_before is None else mask_before
    return ops.convert_to_numpy(next(iter(pruner.masks([weight], [gradient], [before], [num_pruned]))))


def test_weights_that_move_to_zero_go_first_and_the_fastest_of_them_before_the_others():
    weight = np.array([[1.0, -1.0, 2.0], [-2.0, 1.0, -1.0]], "float32")
    gradient = np.array([[0.5, 3.0, -1.0], [-4.0, 2.0, 0.0]], "float32")  # m = -0.5, 3, 2; -8, -2, 0
    golden = [[[1, 1, 1], [0, 1, 1]], [[1, 1, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 0]]]
    for num_pruned, expected in enumerate(golden, 1):
        np.testing.assert_array_equal(mask(pruners.Movement(), weight, gradient, num_pruned), expected)


def test_a_pruned_weight_ranks_below_a_weight_that_moves_to_zero():
    weight, gradient = np.array([[0.0, 1.0, 1.0]], "float32"), np.array([[-5.0, 9.0, -1.0]], "float32")
    before = np.array([[0.0, 1.0, 1.0]], "float32")
    np.testing.assert_array_equal(mask(pruners.Movement(), weight, gradient, 1, before), [[0, 1, 1]])


def test_movement_passes_the_checks_outside_training():
    for options in ({}, {"granularity": "2:4"}, {"granularity": "channel", "scope": "global"}):
        pruner = pruners.get("movement", **options)
        testing.check_config(pruner)
        testing.check_exact_count_with_ties(pruner)
        testing.check_monotone(pruner)
