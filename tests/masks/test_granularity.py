"""One granularity for Dense kernels and another for convolutions; the others are tested with the masks they make."""

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import pruners
from tfsparse.masks import granularity, topk

RANDOM = np.random.default_rng(0)
BOTH = {"dense": (1, 4), "conv": "weight"}


def expand(units, scores, pruned):
    pooled = units.pool(ops.convert_to_tensor(scores))
    mask = units.expand(topk.prune_lowest([pooled], [pruned], [None])[0], ops.convert_to_tensor(scores))
    return ops.convert_to_numpy(mask)


@pytest.mark.parametrize("shape", [(8, 6), (9, 3), (3, 8, 6), (3, 3, 8, 6)])
@pytest.mark.parametrize("kinds", [BOTH, {"dense": "channel", "conv": (1, 4)}, {"dense": "weight", "conv": "2:4"}])
def test_a_kernel_is_cut_as_its_own_kind_alone_would_cut_it(kinds, shape):
    both, alone = granularity.get(kinds), granularity.get(kinds["dense" if len(shape) == 2 else "conv"])
    scores = np.abs(RANDOM.normal(size=shape)).astype("float32")
    numbers = [(g.num_units(shape), g.entries_per_unit(shape), g.max_pruned_units(shape), g.max_sparsity(shape)) for g in (both, alone)]
    assert numbers[0] == numbers[1]
    np.testing.assert_array_equal(expand(both, scores, 3), expand(alone, scores, 3))
    settled = (ops.convert_to_numpy(g.break_ties(scores, scores > 1)) for g in (both, alone))
    np.testing.assert_array_equal(*settled)


def test_highest_and_patterned():
    plain, half = granularity.get(BOTH), granularity.get({"dense": "1:4", "conv": "weight"})
    assert (plain.max_sparsity((8, 8)), half.max_sparsity((8, 8)), half.max_sparsity((3, 8, 8))) == (1.0, 0.75, 1.0)
    assert (plain.has_pattern, half.has_pattern) == (False, True)


def test_what_is_written_is_one_and_the_same_however_it_was_given():
    given = ({"conv": "weight", "dense": [1, 4]}, BOTH)
    first, second = (pruners.Magnitude(granularity=g) for g in given)
    assert first == second and hash(first) == hash(second) and list(first.granularity) == ["dense", "conv"]
    assert granularity.to_config([1, 4]) == (1, 4) and granularity.to_config("2:4") == "2:4"


def test_in_a_model_each_kernel_has_its_own_pattern():
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Conv2D(8, 3), keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((6, 6, 4)), *stack])
    tfsparse.prune(model, 0.75, pruner=pruners.Magnitude(granularity=BOTH))
    conv, hidden, head = (ops.convert_to_numpy(v) for v in model.trainable_variables[::2])
    assert [np.mean(k == 0) for k in (conv, hidden, head)] == [0.75] * 3
    for dense in (hidden, head):
        assert set(np.count_nonzero(dense.reshape(-1, 4, dense.shape[1]), axis=1).ravel()) == {0, 4}
    assert {1, 2, 3} <= set(np.count_nonzero(conv.reshape(-1, 4, 8), axis=1).ravel())


@pytest.mark.parametrize("wrong", [{"dense": (1, 4)}, {"dense": (1, 4), "conv": "weight", "rnn": "weight"}, {}])
def test_every_kind_must_be_named(wrong):
    with pytest.raises(ValueError, match='write granularity={"dense": .*, "conv": "weight"}'):
        granularity.get(wrong)


def test_a_wrong_one_inside_is_named():
    with pytest.raises(ValueError, match="granularity='filter': expected"):
        granularity.get({"dense": (1, 4), "conv": "filter"})


def test_who_exchanges_weights_refuses_a_pattern_in_either_kind():
    assert pruners.RigL(granularity=BOTH).granularity == BOTH
    with pytest.raises(ValueError, match="a fixed pattern"):
        pruners.RigL(granularity={"dense": "weight", "conv": "2:4"})
