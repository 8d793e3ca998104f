import numpy as np
import pytest
import reference
from keras import ops
from thoroughly import also

from tfsparse import Prune, pruners, schedules
from tfsparse.masks.topk import num_pruned
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import SET, DropAndGrow, RigL
from tfsparse.testing import fixtures


class Given(DropAndGrow):
    """Grows by the gradient as it is."""

    needs_gradients = True

    def growth(self, gradient, mask, index):
        return ops.cast(gradient, "float32")


def masks(pruner, weight, growth, mask, sparsity, step=1, total=1_000_000):
    arrays = [[np.array(a, "float32")] for a in (weight, growth, mask)]
    counts = [num_pruned(sparsity, np.size(weight))]
    return ops.convert_to_numpy(pruner.at_step(step, total).masks(*arrays, counts)[0])


def test_exchanged_fraction_golden():  # methods/baselines.md, from RigL's code
    shares = [float(RigL(end=0.8).exchanged_fraction(t)) for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    np.testing.assert_allclose(shares, [0.3, 0.256066, 0.15, 0.043934, 0, 0], atol=1e-6)


def test_golden_drop_two_of_four():
    """4 and 3 stay, 2 and 1 are dropped; 9 grows, and what was dropped with 8 comes back."""
    weight = [[4, 1, 0, 0], [-3, -2, 0, 0]]
    growth = [[0, 5, 9, 7], [0, 8, 1, 6]]
    mask = [[1, 1, 0, 0], [1, 1, 0, 0]]
    new = masks(Given(drop_fraction=0.5), weight, growth, mask, 0.5)
    np.testing.assert_array_equal(new, [[1, 0, 1, 0], [1, 1, 0, 0]])


def test_golden_ties_go_to_the_living_and_then_to_the_lower_index():
    weight, mask = [[2, 2, 2, 0, 0, 0]], [[1, 1, 1, 0, 0, 0]]
    new = masks(Given(drop_fraction=0.7), weight, np.zeros((1, 6)), mask, 0.5)  # drops the last two: both come back
    np.testing.assert_array_equal(new, mask)
    new = masks(Given(drop_fraction=0.7), weight, [[0, 0, 0, 1, 1, 1]], mask, 0.5)
    np.testing.assert_array_equal(new, [[1, 0, 0, 1, 1, 0]])


def test_after_the_end_nothing_is_exchanged():
    weight, mask = [[4, 1, 0, 0]], [[1, 1, 0, 0]]
    late = masks(Given(drop_fraction=0.5, end=0.5), weight, [[0, 0, 9, 9]], mask, 0.5, step=50, total=100)
    np.testing.assert_array_equal(late, mask)


def test_living_zeros_are_kept_before_pruned_ones_and_a_falling_sparsity_only_grows():
    weight, mask = [[0, 0, 0, 0, 0, 7]], [[0, 0, 0, 1, 1, 1]]
    kept = masks(Given(drop_fraction=1e-6), weight, [[9, 9, 9, 0, 0, 0]], mask, 0.5)
    np.testing.assert_array_equal(kept, mask)
    more = masks(Given(drop_fraction=1e-6), weight, [[1, 3, 2, 0, 0, 0]], mask, 2 / 6)
    np.testing.assert_array_equal(more, [[0, 1, 0, 1, 1, 1]])


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("step", [1, 30, 60])
def test_against_the_reference(sparsity, step):
    random = np.random.default_rng(step)
    pruner = Given(drop_fraction=0.4, end=0.9)
    for size in (10, 40, 200):
        mask = (random.random((size, 5)) < 0.4).astype("float32")
        weight, growth = random.normal(size=mask.shape).round(1) * mask, random.random(mask.shape).round(1)
        share = 0.2 * (1 + np.cos(np.pi * step / 100 / 0.9))
        expected = reference.drop_and_grow(weight, growth, mask, sparsity, share)
        np.testing.assert_array_equal(masks(pruner, weight, growth, mask, sparsity, step, 100), expected)


@pytest.mark.parametrize("make", [SET, RigL])
def test_a_dense_network_becomes_a_random_sparse_one(make):
    weight = np.arange(1.0, 1001.0).reshape(50, 20)
    mask = masks(make(), weight, weight, np.ones((50, 20)), 0.9)
    assert mask.sum() == 100
    assert abs(mask[25:].mean() - 0.1) < 0.05  # not the largest
    assert not np.array_equal(mask, masks(make(seed=1), weight, weight, np.ones((50, 20)), 0.9))


@pytest.mark.parametrize("name", ["set", "rigl"])
@pytest.mark.parametrize("granularity", ["weight", *also(["channel", (1, 4)])])
def test_the_count_is_exact_at_every_update(name, granularity):
    pruner = pruners.get(name, granularity=granularity, allocation="uniform", drop_fraction=0.6)
    exchanged = []

    def look(model):
        fixtures.assert_target(model, pruner)
        exchanged.append(fixtures.to_arrays(compiled_model.sparse_optimizer(model).masks))

    fixtures.fit(pruner, prune=Prune("constant", 0.5, pruner), callbacks=[fixtures.AfterEveryStep(look)], epochs=2)
    assert any(not np.array_equal(a, b) for a, b in zip(exchanged[0], exchanged[-1], strict=True))


def test_names():
    assert {"set", "rigl", "feather"} <= set(pruners.names())
    assert pruners.get("RigL") == pruners.get("rigl") == RigL()
    assert schedules.get("ACDC") == schedules.get("acdc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "global"}, r'RigL got scope="global".*expected "layer".*write RigL\(allocation="erk"\)'),
        ({"granularity": "2:4"}, r"RigL got granularity='2:4'.*as in RigL\(\"weight\"\)"),
        ({"drop_fraction": 0}, r"drop_fraction=0: expected a fraction in \(0, 1\]"),
        ({"drop_fraction": 1.5}, "drop_fraction=1.5"),
        ({"end": 0}, r"end=0: expected a fraction in \(0, 1\]"),
        ({"end": 2.0}, "end=2.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        RigL(**options)
