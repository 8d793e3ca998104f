"""Choosing and saving granularities. The masks that they give are tested in test_topk.py."""

import math

import keras
import numpy as np
import pytest
import reference
from keras import ops

import tfsparse
from tfsparse import pruners
from tfsparse.masks import granularity

BOTH = {"dense": (1, 4), "conv": "weight"}


@pytest.mark.parametrize("shape", [(8, 6), (9, 3), (3, 8, 6), (3, 3, 8, 6)])
@pytest.mark.parametrize("kinds", [BOTH, {"dense": "channel", "conv": (1, 4)}, {"dense": "weight", "conv": "2:4"}])
def test_each_kind_of_kernel_has_its_granularity(kinds, shape):
    both, alone = granularity.get(kinds), granularity.get(kinds["dense" if len(shape) == 2 else "conv"])
    assert both.for_shape(shape) == alone
    assert both.for_shape(shape) is (both.dense if len(shape) == 2 else both.conv)


def test_one_kind_with_a_pattern_limits_the_sparsity_of_that_kind_alone():
    plain, half = granularity.get(BOTH), granularity.get({"dense": "1:4", "conv": "weight"})
    shapes = (8, 8), (3, 8, 8)
    assert [half.for_shape(shape).max_sparsity(shape) for shape in shapes] == [0.75, 1.0]
    assert (plain.has_pattern, half.has_pattern) == (False, True)


def test_equal_granularities_have_equal_configurations():
    given = ({"conv": "weight", "dense": [1, 4]}, BOTH)
    first, second = (pruners.Magnitude(granularity=g) for g in given)
    assert first == second and hash(first) == hash(second) and list(first.granularity) == ["dense", "conv"]
    assert granularity.to_config([1, 4]) == (1, 4) and granularity.to_config("2:4") == "2:4"


@pytest.mark.parametrize(
    "given",
    [granularity.Block(1, 4, "max"), granularity.NofM(2, 4), {"dense": granularity.Block(2, 2), "conv": "channel"}],
)
def test_a_pruner_with_a_granularity_object_is_saved_and_loaded(given):
    pruner = pruners.Magnitude(granularity=given)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pruner))
    assert again == pruner and again.num_prunable((8, 8), 0.5) == pruner.num_prunable((8, 8), 0.5)


def test_in_a_model_each_kernel_has_its_own_pattern():
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Conv2D(8, 3), keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((6, 6, 4)), *stack])
    tfsparse.prune(model, 0.75, pruner=pruners.Magnitude(BOTH, "layer"))
    conv, hidden, head = (ops.convert_to_numpy(v) for v in model.trainable_variables[::2])
    assert [np.mean(k == 0) for k in (conv, hidden, head)] == [0.75] * 3
    for dense in (hidden, head):
        assert set(np.count_nonzero(dense.reshape(-1, 4, dense.shape[1]), axis=1).ravel()) == {0, 4}
    assert {1, 2, 3} <= set(np.count_nonzero(conv.reshape(-1, 4, 8), axis=1).ravel())


@pytest.mark.parametrize("wrong", [{"dense": (1, 4)}, {"dense": (1, 4), "conv": "weight", "rnn": "weight"}, {}])
def test_both_kinds_must_be_given(wrong):
    with pytest.raises(ValueError, match='write granularity={"dense": .*, "conv": "weight"}'):
        granularity.get(wrong)


def test_a_wrong_granularity_of_one_kind_is_an_error():
    with pytest.raises(ValueError, match="granularity='filter': expected"):
        granularity.get({"dense": (1, 4), "conv": "filter"})


def test_drop_and_grow_refuses_a_pattern_in_either_kind():
    assert pruners.RigL(granularity=BOTH).granularity == BOTH
    with pytest.raises(ValueError, match="a fixed pattern"):
        pruners.RigL(granularity={"dense": "weight", "conv": "2:4"})


_UNEVEN = [
    ((17, 50), (1, 4)),
    ((17, 50), (8, 8)),
    ((17, 50), (16, 16)),
    ((7, 5), (2, 3)),
    ((3, 3, 5, 7), (3, 2)),
    ((10, 3), (8, 4)),
    ((13, 29), (6, 4)),
]


def mask_of(units, scores, count, mask=None):
    """The mask of a weight after one update."""
    mask = np.ones_like(scores) if mask is None else mask
    pooled, kept = units.pool(ops.convert_to_tensor(scores)), units.pool(ops.convert_to_tensor(mask))
    unit_mask = units.prune_lowest(pooled, count, kept, scores.shape)
    return ops.convert_to_numpy(units.expand(unit_mask, ops.convert_to_tensor(scores)))


@pytest.mark.parametrize(("shape", "block"), _UNEVEN, ids=str)
def test_blocks_that_do_not_divide_a_kernel_give_the_nearest_possible_count(shape, block):
    random, units, size = np.random.default_rng(0), granularity.get(block), math.prod(shape)
    possible = reference.possible_counts([(p.num_units, p.entries_per_unit) for p in units.parts(shape)])
    for sparsity in (0.1, 0.5, 0.77, 0.9):
        count = units.nearest_count(shape, sparsity * size)
        assert abs(count - sparsity * size) == min(abs(n - sparsity * size) for n in possible if n < size)
        scores = np.abs(random.normal(size=shape)).astype("float32")
        for wanted in (count, ops.convert_to_tensor(count)):
            mask = mask_of(units, scores, wanted)
            assert np.sum(mask == 0) == count
            np.testing.assert_array_equal(mask, mask_of(units, mask, count))  # whole blocks, and they stay


def test_the_nearest_count_is_of_the_target_itself_not_of_the_rounded_one():
    assert granularity.get((2, 2)).nearest_count((16, 4), 0.9 * 64) == 56  # 57.6; 60 is as near to 58


def test_golden_of_a_smaller_block_that_makes_the_count_exact():
    scores = np.array([[1], [1], [2], [2], [9]], "float32")  # blocks of 2 inputs: means 1, 2, 9, the last of one entry
    units = granularity.get((1, 2))
    np.testing.assert_array_equal(mask_of(units, scores, 3)[:, 0], [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(mask_of(units, scores, 4)[:, 0], [0, 0, 0, 0, 1])


def test_channels_and_groups_count_true_entries():
    assert granularity.get("channel").nearest_count((17, 10), 0.33 * 170) == 3 * 17
    two_of_four = granularity.get("2:4")
    assert two_of_four.nearest_count((17, 50), 0.5 * 850) == two_of_four.max_zeros((17, 50)) == 400  # one input is left
    assert two_of_four.nearest_count((17, 50), 0.3 * 850) == 256  # of 254 and 256, which are as near to 255
