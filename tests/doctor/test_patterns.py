"""The granularity of the zeros of a weight is detected."""

import numpy as np
import pytest

from tfsparse.doctor import patterns
from tfsparse.masks import granularity


def kernel(shape, kind, sparsity, seed=0):
    """Random numbers, pruned in one of the granularities."""
    random = np.random.default_rng(seed).normal(size=shape).astype("float32")
    units = granularity.get(kind)
    scores = units.pool(np.abs(random))
    order = np.argsort(np.asarray(scores).ravel())
    mask = np.ones(order.size, "float32")
    mask[order[: round(sparsity * order.size)]] = 0
    return random * np.asarray(units.expand(mask.reshape(np.shape(scores)), np.abs(random)))


@pytest.mark.parametrize("shape", [(64, 32), (3, 3, 16, 32)])
@pytest.mark.parametrize("sparsity", [0.25, 0.75, 0.97])
@pytest.mark.parametrize(("kind", "name"), [("weight", "weight"), ("channel", "channel"), ((1, 4), "(1, 4)")])
def test_the_granularity_that_pruned_a_weight_is_detected(shape, kind, name, sparsity):
    found = patterns.detect(kernel(shape, kind, sparsity))
    assert found.name == name and found.sparsity == pytest.approx(sparsity, abs=0.01)


def test_hand_made_weights():
    weight = np.ones((8, 4), "float32")
    weight[:, 3] = weight[:4, 0] = weight[0, 1] = 0
    found = patterns.detect(weight)
    assert (found.sparsity, found.empty_channels, found.name) == (13 / 32, 1 / 4, "weight")
    weight[0, 1] = 1
    assert patterns.detect(weight).name == "(1, 4)"
    weight[:4, 0] = 1
    assert patterns.detect(weight).name == "channel"


def test_two_of_four_is_detected():
    groups = np.array([[1, 0, 2, 0], [0, 3, 4, 0]], "float32").T
    assert patterns.detect(groups).name == "2:4"
    assert patterns.detect(np.tile(groups, (3, 5))).name == "2:4"
    assert patterns.detect(groups.T.copy()).name == "weight"


@pytest.mark.parametrize("zeros, name", [(0, "dense"), (19, "dense"), (20, "weight")])
def test_a_weight_with_few_zeros_counts_as_dense(zeros, name):
    weight = np.ones((20, 20), "float32")
    weight.flat[np.arange(zeros) * 21 % 400] = 0
    assert patterns.detect(weight) == patterns.Pattern(zeros / 400, name, 0)


def test_a_block_needs_four_inputs():
    weight = kernel((3, 3, 1, 64), "weight", 0.5)
    assert patterns.detect(weight).name == "weight"


@pytest.mark.parametrize("shape", [(2, 3), (3, 3, 1, 1), (1, 1), (0, 4)])
def test_odd_shapes(shape):
    assert patterns.detect(np.zeros(shape, "float32")).name == ("channel" if 0 not in shape else "dense")
