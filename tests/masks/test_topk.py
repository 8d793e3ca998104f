import keras
import numpy as np
import pytest
import reference
from keras import ops

from tfsparse import pruners
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import granularity, topk

RANDOM = np.random.default_rng(0)


def numpy(x):
    return ops.convert_to_numpy(x)


def test_golden_topk():
    scores = np.array([[3.0, 1.0, 2.0], [2.0, 0.5, 4.0]], "float32")
    np.testing.assert_array_equal(numpy(topk.topk_mask(scores, 0.5)), [[1, 0, 1], [0, 0, 1]])


def test_golden_of_ties_the_lower_index_is_kept():
    np.testing.assert_array_equal(numpy(topk.topk_mask(np.ones(5, "float32"), 0.6)), [1, 1, 0, 0, 0])


def test_golden_a_pruned_entry_wins_no_tie():
    mask = np.array([0, 1, 0, 1], "float32")
    np.testing.assert_array_equal(numpy(topk.topk_mask(np.zeros(4, "float32"), 0.5, mask)), mask)


def test_golden_minus_zero_ties_with_zero():
    np.testing.assert_array_equal(numpy(topk.topk_mask(np.array([-0.0, 0.0, -0.0], "float32"), 1 / 3)), [1, 1, 0])


@pytest.mark.parametrize("kind", ["normal", "positive", "ties", "few values", "negative", "tiny", "huge"])
def test_topk_equals_a_sort(kind):
    for size in (2, 3, 700, 4096, 8999):  # below, at and beyond a row of the search for ties
        scores = RANDOM.normal(size=size).astype("float32")
        scores = {
            "normal": scores,
            "positive": np.abs(scores),
            "ties": np.abs(scores.round(1)),
            "few values": scores.round(0),
            "negative": -np.abs(scores),
            "tiny": np.abs(scores) * 1e-39,
            "huge": np.abs(scores) * 1e37,
        }[kind]
        mask = (RANDOM.random(scores.size) > 0.5).astype("float32")
        sparsity = float(RANDOM.uniform(0, 0.999))
        np.testing.assert_array_equal(numpy(topk.topk_mask(scores, sparsity)), reference.topk_mask(scores, sparsity))
        np.testing.assert_array_equal(
            numpy(topk.topk_mask(np.abs(scores) * mask, sparsity, mask)),
            reference.topk_mask(np.abs(scores) * mask, sparsity, mask),
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_count_is_exact_in_every_dtype(dtype):
    scores = ops.cast(ops.convert_to_tensor(np.abs(RANDOM.normal(size=(123, 45))).astype("float32")), dtype)
    for sparsity in (0.0, 0.1, 0.5, 0.9, 0.999):
        mask = topk.topk_mask(scores, sparsity)
        assert mask.dtype == scores.dtype
        assert int(np.sum(numpy(ops.cast(mask, "float32")) == 0)) == round(sparsity * 123 * 45)


def test_a_layer_is_never_emptied():
    assert numpy(topk.topk_mask(np.arange(3.0, dtype="float32"), 0.99)).tolist() == [0, 0, 1]


def test_a_sparsity_is_a_fraction_whatever_its_type():
    assert topk.num_pruned(0.9, 20_000_001) == 18_000_001  # float32 cannot count that far
    assert int(topk.num_pruned(ops.convert_to_tensor(0.25), 8)) == 2
    scores = np.arange(4.0, dtype="float32")
    for sparsity in (1, 1.0, np.int32(1)):
        assert numpy(topk.topk_mask(scores, sparsity)).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("ties", [False, True])
def test_global_masks_equal_a_sort(ties):
    for _ in range(10):
        scale = RANDOM.choice([0.01, 1, 10], size=4)
        sizes = RANDOM.permutation([2, 30, 144, 400])
        scores = [(np.abs(RANDOM.normal(size=n)) * s).astype("float32") for n, s in zip(sizes, scale, strict=True)]
        scores = [s.round(1) for s in scores] if ties else scores
        sparsity = float(RANDOM.uniform(0, 0.98))
        for mine, theirs in zip(
            topk.global_masks(scores, sparsity), reference.global_masks(scores, sparsity), strict=True
        ):
            np.testing.assert_array_equal(numpy(mine), theirs)


def test_global_masks_empty_no_layer():
    small, large = np.full((10, 10), 1e-3, "float32"), np.ones((50, 50), "float32")
    first, second = topk.global_masks([small, large], 0.9)
    assert np.sum(numpy(first)) >= 1
    assert np.sum(numpy(first) == 0) + np.sum(numpy(second) == 0) == round(0.9 * 2600)


def mask_of(units, scores, pruned):
    pooled = units.pool(ops.convert_to_tensor(scores))
    return numpy(units.expand(topk.prune_lowest([pooled], [pruned], [None])[0], ops.convert_to_tensor(scores)))


def test_golden_channels():
    scores = np.array([[1.0, 9.0, 2.0], [1.0, 9.0, 3.0]], "float32")
    np.testing.assert_array_equal(mask_of(granularity.get("channel"), scores, 1), [[0, 1, 1], [0, 1, 1]])


def test_golden_blocks_run_along_the_inputs():
    scores = np.array([[1, 9], [1, 1], [9, 1], [9, 1], [1, 5]], "float32")  # 5 inputs, 2 outputs; blocks of 2 inputs
    expected = [[0, 1], [0, 1], [1, 0], [1, 0], [0, 1]]
    np.testing.assert_array_equal(mask_of(granularity.get((1, 2)), scores, 3), expected)


def test_blocks_of_a_convolution_stay_within_one_kernel_position():
    scores = np.abs(RANDOM.normal(size=(3, 3, 8, 6))).astype("float32")
    mask = mask_of(granularity.get((1, 4)), scores, 50).reshape(9, 2, 4, 6)
    assert set(mask.sum(axis=2).ravel()) <= {0, 4}
    assert np.sum(mask == 0) == 50 * 4


def test_n_of_m_equals_the_reference_at_the_full_pattern():
    for shape in [(8, 5), (10, 3), (3, 3, 8, 4)]:
        scores = np.abs(RANDOM.normal(size=shape)).astype("float32")
        units = granularity.get("2:4")
        mask = mask_of(units, scores, units.max_pruned_units(shape))
        np.testing.assert_array_equal(mask, reference.n_of_m(scores, 2, 4))


def test_n_of_m_prunes_the_groups_that_lose_least_first():
    scores = np.array([[1, 5], [2, 5], [3, 5], [4, 5]], "float32")  # 4 inputs, 2 outputs: two groups
    np.testing.assert_array_equal(mask_of(granularity.get("2:4"), scores, 1), [[0, 1], [0, 1], [1, 1], [1, 1]])


def test_golden_max_pooling_of_blocks():
    scores = np.array([[1, 2], [9, 2], [3, 4], [4, 4]], "float32")  # sums 10, 4, 7, 8; maxima 9, 2, 4, 4
    mask = mask_of(granularity.Block(1, 2, "max"), scores, 2)
    np.testing.assert_array_equal(mask, [[1, 0], [1, 0], [1, 0], [1, 0]])


@pytest.mark.parametrize("wrong", ["filter", (4,), (0, 4), "4:2", "0:4", 3])
def test_an_unknown_granularity_names_the_choices(wrong):
    with pytest.raises(ValueError, match="expected \"weight\", \"channel\""):
        granularity.get(wrong)


@pytest.mark.parametrize("num_units", [40, 280, 700])
def test_global_masks_count_beyond_32_bits(num_units):
    scores = [RANDOM.random(200).astype("float32") for _ in range(4)]
    entries = 4_000_000  # 3.2 billion in all
    limits = topk.max_pruned_by_default(num_units * entries, [199] * 4, [entries] * 4)
    masks = topk.prune_lowest_globally(scores, num_units * entries, limits, [entries] * 4)
    for mask, expected in zip(masks, reference.global_masks(scores, num_units / 800), strict=True):
        np.testing.assert_array_equal(numpy(mask), expected)


def test_ties_are_counted_beyond_32_bits():
    ones, entries = [np.ones(200, "float32")] * 4, 4_000_000
    masks = topk.prune_lowest_globally(ones, [150 * entries] * 4, [199] * 4, [entries] * 4)
    assert sum(int(np.sum(numpy(m) == 0)) for m in masks) == 600


def test_the_units_of_the_smallest_size_fill_up_what_is_left_of_a_global_count():
    scores = [np.arange(1.0, 21.0, dtype="float32"), np.arange(101.0, 141.0, dtype="float32")]
    for count in (10, 11, 13, 14):
        masks = list(topk.prune_lowest_globally(scores, count, [19, 39], [5, 1]))
        zeros = [int(np.sum(numpy(m) == 0)) for m in masks]
        assert zeros == [count // 5, count % 5] and numpy(masks[1]).tolist() == sorted(numpy(masks[1]).tolist())


@pytest.mark.parametrize("ties", [False, True])
def test_every_tensor_stays_within_its_bounds(ties):
    scores = [RANDOM.random(n).astype("float32") * k for n, k in ((50, 1), (80, 9), (30, 90))]
    scores = [np.floor(s) for s in scores] if ties else scores
    least = [None, ops.cast(20, "int32"), 7]
    masks = topk.prune_lowest_globally(scores, 100, [40, 79, 29], [1] * 3, min_pruned_units=least)
    expected = reference.masks_within_bounds(scores, 100, [0, 20, 7], [40, 79, 29])
    for mask, golden in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(numpy(mask), golden)
    zeros = [int(np.sum(m == 0)) for m in expected]
    assert zeros == [40, 53, 7]


def test_large_counts_are_split_exactly():
    assert topk.split_proportionally(7_000_000_001, [2_000_000_000] * 4).tolist() == [
        1_750_000_000,
        1_750_000_000,
        1_750_000_000,
        1_750_000_001,
    ]


@pytest.fixture
def without_histograms(monkeypatch):
    monkeypatch.setattr(backend_ops, "histograms_are_slow", lambda: True)


@pytest.mark.parametrize("kind", ["normal", "ties", "negative", "tiny", "not finite"])
def test_masks_without_histograms_equal_a_sort(kind, without_histograms):
    for size in (2, 700, 8999):
        scores = np.abs(RANDOM.normal(size=size)).astype("float32")
        scores = {"ties": scores.round(1), "negative": -scores, "tiny": scores * 1e-39}.get(kind, scores)
        if kind == "not finite":
            scores[:2] = np.inf, np.nan
        mask = (RANDOM.random(size) > 0.5).astype("float32")
        for sparsity in (0.1, 0.93):
            expected = reference.topk_mask(np.nan_to_num(scores, nan=np.inf, posinf=3e38), sparsity)
            np.testing.assert_array_equal(numpy(topk.topk_mask(scores, sparsity)), expected)
            kept = topk.topk_mask(np.zeros(size, "float32"), sparsity, mask)
            np.testing.assert_array_equal(numpy(kept), reference.topk_mask(np.zeros(size, "float32"), sparsity, mask))


def test_global_masks_without_histograms_equal_those_with(monkeypatch):
    scores = [np.abs(RANDOM.normal(size=n)).astype("float32").round(2) for n in (2, 300, 4097)]
    masks = [(RANDOM.random(s.size) > 0.5).astype("float32") for s in scores]
    for sparsity in (0.2, 0.9):
        with_histograms = topk.global_masks(scores, sparsity, masks)
        with monkeypatch.context() as patch:
            patch.setattr(backend_ops, "histograms_are_slow", lambda: True)
            without = topk.global_masks(scores, sparsity, masks)
        for one, other in zip(with_histograms, without, strict=True):
            np.testing.assert_array_equal(numpy(one), numpy(other))


_PRUNERS = [
    pruners.Magnitude(),
    pruners.Magnitude(scope="global"),
    pruners.Magnitude((1, 7)),
    pruners.Magnitude("2:4"),
    pruners.Random(),
    pruners.RigL(),
]


def traced(pruner, shape):
    import tensorflow as tf

    def masks(weight, gradient, mask, count):
        return list(pruner.masks([weight, weight], [gradient] * 2, [mask] * 2, [count] * 2))

    tensor, count = tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), tf.int32)
    return tf.function(masks, autograph=False).get_concrete_function(tensor, tensor, tensor, count)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """What is traced is traced as for a GPU. No other test has tensors of these shapes, which are traced once."""
    monkeypatch.setattr(backend_ops, "_tensorflow_has_gpus", lambda: True)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="kernels of TensorFlow")
@pytest.mark.parametrize("pruner", _PRUNERS, ids=repr)
def test_no_tensor_as_large_as_a_weight_is_copied_to_the_host_on_a_gpu(pruner, on_a_gpu):
    import gpu_kernels

    if not gpu_kernels.are_registered():
        pytest.skip("this TensorFlow has no kernels for GPUs")
    shape = (600, 500)  # larger than a histogram, also in blocks and groups
    assert not gpu_kernels.host_operations(traced(pruner, shape), 70_000)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="kernels of TensorFlow")
@pytest.mark.parametrize("pruner", _PRUNERS, ids=repr)
def test_masks_without_histograms_need_no_kernel_that_refuses_determinism(pruner, without_histograms, on_a_gpu):
    import gpu_kernels

    function = traced(pruner, (601, 500))
    assert "Bincount" not in str(function.graph.as_graph_def())
    assert not gpu_kernels.host_operations(function, 70_000)
