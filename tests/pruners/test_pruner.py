import math

import numpy as np
import pytest
from keras import ops

from tfsparse import pruners
from tfsparse.pruners.allocation import erk

LENET = [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]


@pytest.mark.parametrize(
    ("sparsity", "golden"), [(0.90, [1.0, 0.087072, 0.088433, 1.0]), (0.95, [0.726116, 0.037477, 0.038063, 1.0])]
)
def test_erk_golden(sparsity, golden):  # from the authors' code of RigL
    np.testing.assert_allclose([1 - s for s in erk(LENET, sparsity)], golden, atol=1e-6)


def test_erk_has_the_sparsity_in_total():
    sizes = [np.prod(s) for s in LENET]
    assert np.dot(erk(LENET, 0.9), sizes) / np.sum(sizes) == pytest.approx(0.9)


def test_golden_magnitude_layer_and_global():
    weights = [np.array([[1.0, -4.0], [2.0, -3.0]], "float32"), np.array([[10.0, 30.0], [20.0, 40.0]], "float32")]
    ones = [np.ones((2, 2), "float32")] * 2
    layer = list(pruners.Magnitude(scope="layer").masks(weights, [None] * 2, ones, [2, 2]))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.stack(layer)), [[[0, 1], [0, 1]], [[0, 1], [0, 1]]])
    everywhere = list(pruners.Magnitude().masks(weights, [None] * 2, ones, [2, 1]))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.stack(everywhere)), [[[0, 1], [0, 0]], [[1, 1], [1, 1]]])


def test_one_threshold_for_all_weights_is_the_default_of_every_criterion():
    for cls in (pruners.Magnitude, pruners.Saliency, pruners.Feather):
        assert cls().scope == "global" and cls(allocation="erk").scope == "layer"
    assert {cls().scope for cls in (pruners.Random, pruners.SET, pruners.RigL)} == {"layer"}  # no magnitudes compete


def test_one_threshold_for_channels_is_exact_outside_of_a_compiled_step():
    """On JAX the search is compiled anyway: there a mean was rounded in another way than outside of it."""
    for seed in range(60):
        random = np.random.default_rng(seed)
        weights = [random.normal(size=shape).astype("float32") for shape in ((8, 5), (2, 2, 2, 10))]  # 8 per channel
        masks = pruners.Magnitude("channel").masks(weights, [None] * 2, [np.ones_like(w) for w in weights], [24, 48])
        assert sum(int(ops.sum(ops.cast(mask, "int32"))) for mask in masks) == 6 * 8


def test_golden_bounds_of_single_weights():
    weights = [np.array([[1.0, -4.0], [2.0, -3.0]], "float32"), np.array([[10.0, 30.0], [20.0, 40.0]], "float32")]
    ones = [np.ones((2, 2), "float32")] * 2
    half = list(pruners.Magnitude().with_bounds([(0.0, 0.5), None]).masks(weights, [None] * 2, ones, [2, 1]))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.stack(half)), [[[0, 1], [0, 1]], [[0, 1], [1, 1]]])
    third = list(pruners.Magnitude().with_bounds([None, (0.5, 1.0)]).masks(weights, [None] * 2, ones, [2, 1]))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.stack(third)), [[[0, 1], [1, 1]], [[0, 1], [0, 1]]])


def test_bounds_hold_for_whole_units():
    weights, ones = [np.arange(1.0, 49.0, dtype="float32").reshape(8, 6)], [np.ones((8, 6), "float32")]
    weights, ones = [*weights, 100 + weights[0]], ones * 2
    masks = list(pruners.Magnitude((1, 4)).with_bounds([(0.0, 0.5), None]).masks(weights, [None] * 2, ones, [24, 24]))
    assert [int(np.sum(ops.convert_to_numpy(m) == 0)) for m in masks] == [24, 24]


@pytest.mark.parametrize(("granularity", "shape", "total"), [("weight", (7, 1), 10), ((1, 4), (4, 7), 40)])
def test_least_numbers_that_are_rounded_up_are_together_no_more_than_the_total(granularity, shape, total):
    """Half of seven units is four, and three times four is more than ten."""
    weights = list(np.random.default_rng(0).normal(size=(3, *shape)).astype("float32"))
    pruner = pruners.Magnitude(granularity).with_bounds([(0.5, 1.0), (0.5, 0.9), (0.5, 1.0)])
    masks = pruner.masks(weights, [None] * 3, [np.ones(shape, "float32")] * 3, [total // 3, total // 3, total // 3 + 1])
    zeros = [int(np.sum(ops.convert_to_numpy(mask) == 0)) for mask in masks]
    assert sum(zeros) == total and min(zeros) >= 3 * math.prod(shape) // 7


def test_golden_saliency():
    weights = [np.array([[1.0, -4.0], [2.0, 3.0]], "float32")]
    gradients = [np.array([[9.0, 1.0], [-1.0, 0.0]], "float32")]
    (mask,) = pruners.Saliency().masks(weights, gradients, [np.ones((2, 2), "float32")], [2])
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), [[1, 1], [0, 0]])


def test_random_depends_only_on_the_seed_and_the_position_of_the_weight():
    weights, ones = [np.zeros((40, 5), "float32")] * 2, [np.ones((40, 5), "float32")] * 2

    def masks(seed):
        return [ops.convert_to_numpy(m) for m in pruners.Random(seed=seed).masks(weights, [None] * 2, ones, [100] * 2)]

    first, again, other = masks(0), masks(0), masks(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])
    assert abs(first[0][:20].mean() - 0.5) < 0.15  # no end of the tensor is preferred


def test_n_of_m_with_a_higher_sparsity_than_its_pattern_is_an_error():
    with pytest.raises(ValueError, match=r"write sparsity=0.5"):
        pruners.Magnitude("2:4").num_prunable((8, 8), 0.9)


def test_n_of_m_prunes_only_kernels_with_a_whole_group():
    assert pruners.Magnitude("2:4").num_prunable((3, 8), 0.5) == 0
    assert pruners.Magnitude("2:4").num_prunable((8, 3), 0.5) == 12


@pytest.mark.parametrize(
    "options", [{"scope": "model"}, {"allocation": "erdos"}, {"scope": "global", "allocation": "erk"}]
)
def test_unknown_scopes_and_allocations_are_errors(options):
    with pytest.raises(ValueError, match="scope|allocation"):
        pruners.Magnitude(**options)


def test_an_unknown_pruner_offers_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'magnitude'"):
        pruners.get("magnitud")


SHAPES = [(17, 50), (50, 31), (3, 3, 5, 7), (31, 3)]


def zeros_of(pruner, counts):
    random = np.random.default_rng(0)
    weights = [random.normal(size=shape).astype("float32") for shape in SHAPES]
    masks = list(pruner.masks(weights, [None] * 4, [np.ones_like(w) for w in weights], counts))
    return [int(np.sum(ops.convert_to_numpy(m) == 0)) for m in masks]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.913])
@pytest.mark.parametrize("granularity", ["weight", "channel", (1, 4), {"dense": (1, 4), "conv": "weight"}, (1, 2)])
def test_a_global_target_counts_over_the_whole(granularity, sparsity):
    pruner, size = pruners.Magnitude(granularity, scope="global"), sum(np.prod(s) for s in SHAPES)
    counts = pruner.num_prunable_together(SHAPES, sparsity)
    unit = 17 if granularity == "channel" else 1
    assert abs(sum(counts) - round(sparsity * size)) <= unit / 2
    assert abs(sum(zeros_of(pruner, counts)) - sum(counts)) <= unit / 2


def test_a_sum_of_rounded_counts_is_not_the_global_count():
    shapes = [(3, 3)] * 5  # 4.5 of each; 4 by themselves
    assert sum(pruners.Magnitude(scope="global").num_prunable_together(shapes, 0.5)) == 22
    assert pruners.Magnitude(scope="layer").num_prunable_together(shapes, 0.5) == [4] * 5


@pytest.mark.parametrize("pruner", [pruners.SET((1, 4)), pruners.RigL((8, 8)), pruners.Random((1, 4))], ids=repr)
def test_every_pruner_counts_smaller_blocks_as_they_are(pruner):
    weight = np.random.default_rng(0).normal(size=(17, 50)).astype("float32")
    count, mask = pruner.num_prunable((17, 50), 0.8), np.ones_like(weight)
    for step in (1, 2, 3):
        (mask,) = pruner.at_step(step, 10).masks([weight * mask], [weight], [mask], [count])
        assert int(np.sum(ops.convert_to_numpy(mask) == 0)) == count and abs(count - 0.8 * 850) <= 1
