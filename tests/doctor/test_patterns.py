"""What the zeros of a weight look like."""

import numpy as np
import pytest

from tfsparse.doctor import patterns
from tfsparse.masks import granularity


def kernel(shape, kind, sparsity, seed=0):
    """Random, and cut by one of the granularities."""
    random = np.random.default_rng(seed).normal(size=shape).astype("float32")
    units = granularity.get(kind)
    scores = units.pool(np.abs(random))
    order = np.argsort(np.asarray(scores).ravel())
    alive = np.ones(order.size, "float32")
    alive[order[: round(sparsity * order.size)]] = 0
    return random * np.asarray(units.expand(alive.reshape(np.shape(scores)), np.abs(random)))


@pytest.mark.parametrize("shape", [(64, 32), (3, 3, 16, 32)])
@pytest.mark.parametrize("sparsity", [0.25, 0.75, 0.97])
@pytest.mark.parametrize(("kind", "name"), [("weight", "weight"), ("channel", "channel"), ((1, 4), "(1, 4)")])
def test_what_was_pruned_is_found(shape, kind, name, sparsity):
    found = patterns.detect(kernel(shape, kind, sparsity))
    assert found.name == name and found.sparsity == pytest.approx(sparsity, abs=0.01)


def test_by_eye():
    cut = np.ones((8, 4), "float32")
    cut[:, 3] = cut[:4, 0] = cut[0, 1] = 0
    found = patterns.detect(cut)
    assert (found.sparsity, found.empty_channels, found.name) == (13 / 32, 1 / 4, "weight")
    cut[0, 1] = 1
    assert patterns.detect(cut).name == "(1, 4)"
    cut[:4, 0] = 1
    assert patterns.detect(cut).name == "channel"


def test_two_of_four():
    groups = np.array([[1, 0, 2, 0], [0, 3, 4, 0]], "float32").T
    assert patterns.detect(groups).name == "2:4"
    assert patterns.detect(np.tile(groups, (3, 5))).name == "2:4"
    assert patterns.detect(groups.T.copy()).name == "weight"


@pytest.mark.parametrize("zeros, name", [(0, "dense"), (19, "dense"), (20, "weight")])
def test_a_few_zeros_are_nobodys_pruning(zeros, name):
    cut = np.ones((20, 20), "float32")
    cut.flat[np.arange(zeros) * 21 % 400] = 0
    assert patterns.detect(cut) == patterns.Pattern(zeros / 400, name, 0)


def test_a_block_needs_four_inputs():
    cut = kernel((3, 3, 1, 64), "weight", 0.5)
    assert patterns.detect(cut).name == "weight"


@pytest.mark.parametrize("shape", [(2, 3), (3, 3, 1, 1), (1, 1), (0, 4)])
def test_odd_shapes(shape):
    assert patterns.detect(np.zeros(shape, "float32")).name == ("channel" if 0 not in shape else "dense")
