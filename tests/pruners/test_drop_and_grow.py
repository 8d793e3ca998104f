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


class GrowsByGradient(DropAndGrow):
    """Uses the gradient as the growth."""

    needs_gradients = True

    def growth(self, gradient, mask, index):
        return ops.cast(gradient, "float32")


def masks(pruner, weight, growth, mask, sparsity, step=1, total=1_000_000):
    arrays = [[np.array(a, "float32")] for a in (weight, growth, mask)]
    counts = [num_pruned(sparsity, np.size(weight))]
    (mask,) = pruner.at_step(step, total).masks(*arrays, counts)
    return ops.convert_to_numpy(mask)


def test_exchanged_fraction_golden():  # from the authors' code
    fractions = [float(RigL(end=0.8).exchanged_fraction(t)) for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    np.testing.assert_allclose(fractions, [0.3, 0.256066, 0.15, 0.043934, 0, 0], atol=1e-6)


def test_golden_two_of_four_are_exchanged():
    """The weights 4 and 3 are kept, 2 and 1 are dropped. The growths 9 and 8 are largest; 8 is a dropped weight."""
    weight = [[4, 1, 0, 0], [-3, -2, 0, 0]]
    growth = [[0, 5, 9, 7], [0, 8, 1, 6]]
    mask = [[1, 1, 0, 0], [1, 1, 0, 0]]
    new = masks(GrowsByGradient(drop_fraction=0.5), weight, growth, mask, 0.5)
    np.testing.assert_array_equal(new, [[1, 0, 1, 0], [1, 1, 0, 0]])


def test_golden_of_ties_kept_weights_come_first_and_then_the_lower_index():
    weight, mask = [[2, 2, 2, 0, 0, 0]], [[1, 1, 1, 0, 0, 0]]
    # the last two are dropped and grow again
    new = masks(GrowsByGradient(drop_fraction=0.7), weight, np.zeros((1, 6)), mask, 0.5)
    np.testing.assert_array_equal(new, mask)
    new = masks(GrowsByGradient(drop_fraction=0.7), weight, [[0, 0, 0, 1, 1, 1]], mask, 0.5)
    np.testing.assert_array_equal(new, [[1, 0, 0, 1, 1, 0]])


def test_nothing_is_exchanged_after_the_end():
    weight, mask = [[4, 1, 0, 0]], [[1, 1, 0, 0]]
    late = masks(GrowsByGradient(drop_fraction=0.5, end=0.5), weight, [[0, 0, 9, 9]], mask, 0.5, step=50, total=100)
    np.testing.assert_array_equal(late, mask)


def test_zeros_that_are_not_pruned_are_kept_and_a_falling_sparsity_only_grows():
    weight, mask = [[0, 0, 0, 0, 0, 7]], [[0, 0, 0, 1, 1, 1]]
    kept = masks(GrowsByGradient(drop_fraction=1e-6), weight, [[9, 9, 9, 0, 0, 0]], mask, 0.5)
    np.testing.assert_array_equal(kept, mask)
    more = masks(GrowsByGradient(drop_fraction=1e-6), weight, [[1, 3, 2, 0, 0, 0]], mask, 2 / 6)
    np.testing.assert_array_equal(more, [[0, 1, 0, 1, 1, 1]])


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("step", [1, 30, 60])
def test_masks_equal_those_of_the_reference(sparsity, step):
    random = np.random.default_rng(step)
    pruner = GrowsByGradient(drop_fraction=0.4, end=0.9)
    for size in (10, 40, 200):
        mask = (random.random((size, 5)) < 0.4).astype("float32")
        weight, growth = random.normal(size=mask.shape).round(1) * mask, random.random(mask.shape).round(1)
        fraction = 0.2 * (1 + np.cos(np.pi * step / 100 / 0.9))
        expected = reference.drop_and_grow(weight, growth, mask, sparsity, fraction)
        np.testing.assert_array_equal(masks(pruner, weight, growth, mask, sparsity, step, 100), expected)


@pytest.mark.parametrize("make", [SET, RigL])
def test_a_dense_network_becomes_a_random_sparse_network(make):
    weight = np.arange(1.0, 1001.0).reshape(50, 20)
    mask = masks(make(), weight, weight, np.ones((50, 20)), 0.9)
    assert mask.sum() == 100
    assert abs(mask[25:].mean() - 0.1) < 0.05  # not the largest weights
    assert not np.array_equal(mask, masks(make(seed=1), weight, weight, np.ones((50, 20)), 0.9))


@pytest.mark.parametrize("name", ["set", "rigl"])
@pytest.mark.parametrize("granularity", ["weight", *also(["channel", (1, 4)])])
def test_the_count_is_exact_at_every_update(name, granularity):
    pruner = pruners.get(name, granularity=granularity, allocation="uniform", drop_fraction=0.6)
    all_masks = []

    def assert_count(model):
        fixtures.assert_target(model, pruner)
        all_masks.append(fixtures.to_arrays(compiled_model.sparse_optimizer(model).masks))

    callbacks = [fixtures.AfterEveryStep(assert_count)]
    fixtures.fit(pruner, prune=Prune("constant", 0.5, pruner), callbacks=callbacks, epochs=2)
    assert any(not np.array_equal(a, b) for a, b in zip(all_masks[0], all_masks[-1], strict=True))


def test_registered_names():
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
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        RigL(**options)
