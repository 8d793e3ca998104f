import numpy as np
import pytest
import reference
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude as Stock
from thoroughly import also

from tfsparse import tfmot
from tfsparse.tfmot.wrapped_weights import WrappedWeights
from tfsparse.tfmot.wrapper import PruneLowMagnitude

layers, stock = models.layers, models.stock


def _wrapped(schedule=None, scope="layer", **options):
    schedule = schedule or tfmot.OneCycle(0.8, end_step=16)
    return tfmot.prune_low_magnitude(models.small(), schedule, scope=scope, **options)


def _off_masks(model) -> int:
    return sum(int(np.sum(w.numpy()[m.numpy() == 0] != 0)) for v in _variables(model) for w, m, _ in [v])


def _variables(model):
    return [variables for wrapper in models.stock_wrappers(model) for variables in wrapper.pruning_vars]


@pytest.mark.parametrize("seed", [*range(2), *also(range(2, 20))])
def test_masks_are_tfmots(seed):
    """Their schedules, in which no step is missed; random models, sparsities, steps and optimizers."""
    results = []
    for wrap in (stock.prune_low_magnitude, tfmot.prune_low_magnitude):
        random = np.random.default_rng(seed)
        tf_keras.utils.set_random_seed(seed)
        model, sparsity = models.random_model(random), float(random.uniform(0.3, 0.95))
        begin, frequency = int(random.integers(1, 4)), int(random.integers(1, 4))
        end = begin + frequency * int(random.integers(1, 3))
        if random.random() < 0.5:
            schedule = stock.ConstantSparsity(sparsity, begin, end, frequency)
        else:
            schedule = stock.PolynomialDecay(float(random.uniform(0, 0.3)), sparsity, begin, end, frequency=frequency)
        momentum = 0.9 * (random.random() < 0.5)
        model = models.compiled(wrap(model, schedule), tf_keras.optimizers.SGD(0.05, momentum))
        models.fit(model, stock.UpdatePruningStep())
        results.append(models.masks(model))
    assert len(results[0]) == len(results[1]) >= 3
    for theirs, ours in zip(*results, strict=True):
        assert 0 < np.mean(theirs) < 1
        np.testing.assert_array_equal(ours, theirs)


def test_is_tfmots_wrapper_and_has_its_variables():
    ours, theirs = _wrapped(), stock.prune_low_magnitude(models.small(), tfmot.OneCycle(0.8, end_step=16))
    assert all(isinstance(w, Stock) for w in models.stock_wrappers(ours))
    names = [[w.name for w in m.weights if "prune" in w.name] for m in (ours, theirs)]
    assert [n for n in names[0] if "mask" in n] == [n for n in names[1] if "mask" in n]
    pruned = [w.name for w in models.stock_wrappers(theirs) if w.pruning_vars]
    assert [w.name for w in models.stock_wrappers(ours)] == pruned


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, *also([{"run_eagerly": True}, {"steps_per_execution": 4}])]
)
def test_sparse_after_every_step_and_the_same_numbers_however_it_runs(options):
    model = models.compiled(_wrapped(), **options)
    look = models.EveryStep(_off_masks)
    models.fit(model, look)
    assert look.seen
    assert not any(look.seen)
    sizes = [k.size for k in models.kernels(model)]
    assert [int(np.sum(k == 0)) for k in models.kernels(model)] == [round(0.8 * n) for n in sizes]
    assert [int(w.pruning_step) for w in models.stock_wrappers(model)] == [16] * 3
    plain = models.compiled(_wrapped())
    models.fit(plain)
    for mine, theirs in zip(models.masks(model), models.masks(plain), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        model = models.compiled(_wrapped())
        models.fit(model)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert [int(np.sum(k == 0)) for k in models.kernels(model)] == [230, 1152, 48]
    assert {str(m.dtype) for m in models.masks(model)} == {"float32"}


@pytest.mark.parametrize("make", [tf_keras.optimizers.Adam, tf_keras.optimizers.legacy.Adam])
def test_any_optimizer(make):
    model = models.compiled(_wrapped(), make(0.01))
    look = models.EveryStep(_off_masks)
    models.fit(model, look)
    assert not any(look.seen)
    assert models.sparsities(model)[1] == 0.8
    assert int(models.stock_wrappers(model)[0].pruning_step) == 16


def test_custom_loop():
    model, optimizer = _wrapped(), tf_keras.optimizers.SGD(0.05)
    x, y = models.data()
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    for _ in range(16):
        step()
        assert _off_masks(model) == 0
    assert models.sparsities(model)[1] == 0.8


def _updated(weight, **options):
    """The mask that one update at half sparsity gives a Dense or Conv2D kernel of these values."""
    make = layers.Dense(weight.shape[-1]) if weight.ndim == 2 else layers.Conv2D(weight.shape[-1], weight.shape[:2])
    wrapper = PruneLowMagnitude(make, stock.ConstantSparsity(0.5, 0), **options)
    wrapper.build((None, *([9] * (weight.ndim - 2)), weight.shape[-2]))
    wrapper.layer.kernel.assign(weight)
    wrapper(np.zeros((1, *([9] * (weight.ndim - 2)), weight.shape[-2]), "float32"), training=True)
    ((_, mask, threshold),) = wrapper.pruning_vars
    wrapper.pruning_obj.weight_mask_op()
    np.testing.assert_array_equal(wrapper.layer.kernel.numpy(), weight * mask.numpy())
    assert float(threshold) == np.abs(weight)[mask.numpy() > 0].min()
    return mask.numpy()


def test_golden_masks():
    weight = np.array([[1, -8, 3], [5, 2, -7], [4, 6, 0.5], [-9, 0.1, 2.5]], "float32")
    np.testing.assert_array_equal(_updated(weight), [[0, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(
        _updated(weight, sparsity_m_by_n=(2, 4)), [[0, 1, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0]]
    )
    np.testing.assert_array_equal(  # means of 2 inputs x 1 output: 3 5 5 / 6.5 3.05 1.5
        _updated(weight, block_size=(2, 1)), [[0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 0]]
    )
    np.testing.assert_array_equal(  # maxima: 5 8 7 / 9 6 2.5
        _updated(weight, block_size=(2, 1), block_pooling_type="MAX"), [[0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 0]]
    )


def test_blocks_of_a_convolution():
    weight = np.random.default_rng(0).normal(size=(3, 3, 8, 4)).astype("float32")
    mask = _updated(weight, block_size=(4, 1))
    blocks = mask.reshape(3, 3, 2, 4, 4)
    assert set(blocks.sum(axis=3).ravel()) == {0, 4}
    means = np.abs(weight).reshape(3, 3, 2, 4, 4).mean(axis=3)
    np.testing.assert_array_equal(blocks[:, :, :, 0], reference.topk_mask(means, 0.5))


def test_max_and_mean_rank_blocks_differently():
    weight = np.array([[9, 5], [0, 5]], "float32")
    np.testing.assert_array_equal(_updated(weight, block_size=(2, 1)), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(_updated(weight, block_size=(2, 1), block_pooling_type="MAX"), [[1, 0], [1, 0]])


def test_n_of_m_follows_its_schedule():
    model = models.compiled(_wrapped(tfmot.Linear(0.5, end_step=16, updates=None), sparsity_m_by_n=(2, 4)))
    look = models.EveryStep(lambda m: np.mean(models.kernels(m)[1] == 0))
    models.fit(model, look)
    np.testing.assert_allclose(look.seen, np.arange(1, 17) / 32, atol=0.002)
    for kernel in models.kernels(model)[:2]:
        assert set((kernel.reshape(-1, 4, kernel.shape[-1]) != 0).sum(axis=1).ravel()) == {2}


def test_global_scope_has_one_threshold():
    model = models.compiled(_wrapped(tfmot.Constant(0.8, end_step=1), scope="global"))
    before = np.concatenate([k.ravel() for k in models.kernels(model)])
    models.fit(model, epochs=1)
    after = np.concatenate([m.ravel() for m in models.masks(model)])
    assert np.sum(after == 0) == sum(round(0.8 * k.size) for k in models.kernels(model))
    floor = np.abs(before)[after > 0].min()
    assert np.abs(before)[after == 0].max() <= floor
    assert len(set(models.sparsities(model))) == 3


def test_global_masks_are_computed_once_a_step(monkeypatch):
    calls = []
    monkeypatch.setattr(WrappedWeights, "conditional_mask_update", lambda self: calls.append(self))
    for scope, expected in (("global", 1), ("layer", 3)):
        calls.clear()
        _wrapped(scope=scope)(models.data()[0], training=True)
        assert len(calls) == expected


def test_global_scope_needs_the_model():
    model = tf_keras.Sequential([
        layers.Input((4,)),
        tfmot.prune_low_magnitude(layers.Dense(3), tfmot.OneCycle(0.8, 16), scope="global"),
    ])
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(ValueError, match=r"prune_low_magnitude_dense.*callbacks=\[tfsparse\.tfmot\.Prune\(\)\]"):
        model(np.zeros((1, 4), "float32"), training=True)


def test_shared_layer_counts_once():
    dense = tfmot.prune_low_magnitude(layers.Dense(4), tfmot.OneCycle(0.75, end_step=16))
    inputs = layers.Input((4,))
    model = models.compiled(tf_keras.Model(inputs, dense(dense(inputs))))
    models.fit(model)
    assert int(dense.pruning_step) == 16
    assert models.sparsities(model) == [0.75]


def test_frozen_layer_is_left_alone():
    model = _wrapped()
    model.get_layer("prune_low_magnitude_conv").trainable = False
    before = model.layers[1].layer.kernel.numpy()
    models.fit(models.compiled(model))
    np.testing.assert_array_equal(model.layers[1].layer.kernel.numpy(), before)
    assert models.sparsities(model) == pytest.approx([0.8, 0.8])


def test_constraint_of_the_user_holds_too():
    limit = tf_keras.constraints.MaxNorm(0.1)
    dense = layers.Dense(6, kernel_constraint=limit)
    model = tf_keras.Sequential([layers.Input((4,)), tfmot.prune_low_magnitude(dense, tfmot.OneCycle(0.5, 16))])
    models.fit(models.compiled(model))
    assert np.linalg.norm(dense.kernel.numpy(), axis=0).max() <= 0.1001
    assert models.sparsities(model) == [0.5]
    again = tfmot.prune_low_magnitude(dense, tfmot.OneCycle(0.5, 16))  # not one mask upon the other
    again.build((None, 4))
    assert dense.kernel.constraint.inner is limit


def test_padding_masks_go_through():
    inputs = layers.Input((5,), dtype="int32")
    x = layers.Embedding(7, 6, mask_zero=True)(inputs)
    x = layers.LSTM(4)(layers.Dense(6)(x))
    plain = tf_keras.Model(inputs, x)
    wrapped = tfmot.prune_low_magnitude(plain, tfmot.OneCycle(0.5, 16))
    tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
    np.testing.assert_allclose(wrapped(tokens), plain(tokens), rtol=1e-6)
    assert len(models.masks(wrapped)) == 4  # embeddings as TFMOT, dense, two of the LSTM


def test_regularizers_of_activity_count():
    dense = layers.Dense(3, activity_regularizer=tf_keras.regularizers.L2(0.1))
    model = tf_keras.Sequential([layers.Input((4,)), tfmot.prune_low_magnitude(dense, tfmot.OneCycle(0.5, 16))])
    model(np.ones((2, 4), "float32"))
    assert len(model.losses) == 1


@pytest.mark.parametrize("suffix", [".keras", *also([".h5", ""])])
@pytest.mark.parametrize("scope", [tfmot.scope, *also([stock.prune_scope])])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
def test_saved_and_loaded(tmp_path, suffix, scope):
    """Half a training, saved and loaded, and the other half: what a straight run gives."""
    options = {"sparsity_m_by_n": (2, 4)} if suffix == ".keras" else {"block_size": (2, 1)}
    momentum = 0.9 if suffix else 0.0  # tf_keras does not restore momenta from a SavedModel, wrapped or not
    straight = models.compiled(_wrapped(**options), tf_keras.optimizers.SGD(0.05, momentum))
    models.fit(straight, epochs=2)
    model = models.compiled(_wrapped(**options), tf_keras.optimizers.SGD(0.05, momentum))
    models.fit(model, epochs=1)
    model.save(tmp_path / f"model{suffix}")
    with scope():
        loaded = tf_keras.models.load_model(tmp_path / f"model{suffix}")
    assert all(type(w) is PruneLowMagnitude for w in models.stock_wrappers(loaded))
    config = models.stock_wrappers(loaded)[0].get_config()
    assert {k: config[k] for k in options} == {k: tuple(v) for k, v in options.items()}
    models.fit(loaded, epochs=1)
    for mine, theirs in zip(loaded.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_files_of_the_stock_wrapper_load_as_ours(tmp_path):
    model = models.compiled(stock.prune_low_magnitude(models.small(), stock.ConstantSparsity(0.5, 0, frequency=1)))
    models.fit(model, stock.UpdatePruningStep())
    model.save(tmp_path / "stock.keras")
    with tfmot.scope():
        loaded = tf_keras.models.load_model(tmp_path / "stock.keras")
    wrappers = [w for w in models.stock_wrappers(loaded) if w.pruning_vars]
    assert all(type(w) is PruneLowMagnitude for w in wrappers)
    for mine, theirs in zip(models.masks(loaded), models.masks(model), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    models.fit(loaded, tfmot.Prune("one_cycle", sparsity=0.8))
    assert models.sparsities(loaded)[1] == 0.8


def _with_normalization():
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 4))
    x = layers.Flatten()(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    return tf_keras.Model(inputs, layers.Dense(3)(x))


def test_weights_of_tfmots_wrappers_load_through_them(tmp_path):
    """Files of weights alone know layers by their order, and TFMOT wraps all of them."""

    def stock_model():
        return stock.prune_low_magnitude(_with_normalization(), stock.ConstantSparsity(0.5, 0, frequency=1))

    model = models.compiled(stock_model())
    models.fit(model, stock.UpdatePruningStep())
    for name in ("weights.h5", "of.weights.h5", "checkpoint"):
        model.save_weights(tmp_path / name)
        with_theirs = stock_model()
        with_theirs.load_weights(tmp_path / name)
        ours = tfmot.prune_low_magnitude(with_theirs)
        for mine, theirs in zip(ours.trainable_weights, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(mine != 0, theirs != 0)
        for mine, theirs in zip(models.masks(ours), models.masks(model), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="Layer count mismatch"):
        tfmot.prune_low_magnitude(_with_normalization()).load_weights(tmp_path / "weights.h5")


def test_weights_of_a_model_with_more_wrappers_are_refused_with_the_way(tmp_path):
    theirs, ours = stock.prune_low_magnitude(models.small()), tfmot.prune_low_magnitude(models.small())
    theirs.save_weights(tmp_path / "of.weights.h5")
    with pytest.raises(ValueError, match=r"also around layers without kernels. Load its .*_by_tfmot.load_w"):
        ours.load_weights(tmp_path / "of.weights.h5")


def test_a_model_of_ours_goes_on_with_tfmots_wrappers():
    schedule = tfmot.Constant(0.5, end_step=8)
    model = models.compiled(tfmot.prune_low_magnitude(_with_normalization(), schedule, scope="layer"))
    models.fit(model, epochs=1)
    pruned = [k == 0 for k in models.kernels(model)]
    theirs = stock.prune_low_magnitude(tfmot.strip_pruning(model), stock.ConstantSparsity(0.5, 0, frequency=1))
    models.fit(models.compiled(theirs), stock.UpdatePruningStep(), epochs=1)
    for mine, their in zip(pruned, models.masks(theirs), strict=True):
        np.testing.assert_array_equal(mine, their == 0)


def test_errors_say_what_to_write():
    with pytest.raises(ValueError, match="scope='globl'"):
        tfmot.prune_low_magnitude(layers.Dense(3), scope="globl")
    with pytest.raises(ValueError, match="Unsupported pooling type"):
        tfmot.prune_low_magnitude(layers.Dense(3), block_pooling_type="MIN")
