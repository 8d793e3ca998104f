"""Both searches, since they must find the same."""

import numpy as np
import pytest
from keras import ops

from tfsparse.masks import by_comparison, by_histograms, sort_keys

RANDOM = np.random.default_rng(0)
METHODS = [by_comparison, by_histograms]


def kept(method, keys, count, threshold=0, below=0, has_own=1, mask=None):
    numbers = ops.convert_to_tensor(np.array([count, threshold, below, has_own], "int32"))
    flat = [] if mask is None else [ops.convert_to_tensor(mask)]
    return ops.convert_to_numpy(method.kept(len(keys))(ops.convert_to_tensor(keys), numbers, *flat)).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_golden_a_threshold_of_its_own(method):
    keys = np.array([3.0, 1.0, 2.0, 2.0, 0.0], "float32")
    assert kept(method, keys, 2) == [1, 0, 1, 1, 0]
    assert kept(method, keys, 3) == [1, 0, 1, 0, 0]  # of ties the higher index is pruned first
    assert kept(method, keys, 3, mask=np.array([1, 1, 0, 1, 1], "uint8")) == [1, 0, 0, 1, 0]
    assert kept(method, keys, 0) == [1, 1, 1, 1, 1] and kept(method, keys, 5) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_golden_a_common_threshold(method):
    keys = np.array([3.0, 1.0, 2.0, 2.0, 0.0], "float32")
    bits = int(np.float32(2.0).view("int32"))
    assert kept(method, keys, 2, threshold=bits, below=2, has_own=0) == [1, 0, 1, 1, 0]
    assert kept(method, keys, 3, threshold=bits, below=2, has_own=0) == [1, 0, 1, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 1000, 70_001])
def test_both_searches_keep_the_same(size):
    for keys in (RANDOM.random(size), RANDOM.random(size).round(1), np.full(size, np.inf)):
        keys, mask = keys.astype("float32"), (RANDOM.random(size) > 0.5).astype("uint8")
        for count in {0, size // 3, size - 1, size}:
            one, other = (kept(method, keys, count, mask=mask) for method in METHODS)
            assert one == other and one.count(0) == count


@pytest.mark.parametrize("method", METHODS)
def test_a_common_threshold_of_several_tensors(method):
    tensors = [[1.0, 2.0, 2.0], [0.1], [8.0, 9.0], [0.5, 2.0, 7.0]]
    tensors = [np.array(t, "float32") for t in tensors]

    def fits(below):
        return ops.sum(below, axis=0) <= 4

    threshold, below, equal = method.common_threshold([*map(ops.convert_to_tensor, tensors)], fits)
    assert np.int32(ops.convert_to_numpy(threshold)).view("float32") == 2.0
    assert ops.convert_to_numpy(below).tolist() == [1, 1, 0, 1]
    assert ops.convert_to_numpy(equal).tolist() == [2, 0, 0, 1]


def test_places_rank_what_was_pruned_before_and_later_entries_first():
    like, mask = np.zeros(4, "float32"), np.array([1, 0, 1, 0], "uint8")
    assert ops.convert_to_numpy(sort_keys.places(like)).tolist() == [3, 2, 1, 0]
    assert ops.convert_to_numpy(sort_keys.places(like, mask)).tolist() == [7, 2, 5, 0]
