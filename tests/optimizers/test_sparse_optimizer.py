import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import SparseOptimizer, testing


def weight(values, name="kernel"):
    return keras.Variable(np.array(values, "float32"), name=name)


def step(optimizer, variable, gradient):
    optimizer.apply([ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
    return ops.convert_to_numpy(variable)


def test_golden_two_steps():
    """Constant 50 %: after step 1 the two smallest are zero and stay so, whatever their gradient; the others are plain
    SGD's."""
    w = weight([[4.0, 1.0], [-3.0, 2.0]])
    optimizer = SparseOptimizer(keras.optimizers.SGD(1.0), "constant", 0.5, total_steps=5)
    np.testing.assert_array_equal(step(optimizer, w, [[1, 0], [0, 0]]), [[3, 0], [-3, 0]])
    np.testing.assert_array_equal(step(optimizer, w, [[0, -9], [1, -9]]), [[3, 0], [-4, 0]])


def test_returning_weight_starts_with_empty_slots():
    """DSD returns to dense: nothing that gathered while a weight was pruned, in momentum or weight, is left."""
    w = weight([[4.0, 1.0], [-3.0, 2.0]])
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer = SparseOptimizer(inner, tfsparse.DSD(), 0.5, total_steps=4)
    for _ in range(3):
        step(optimizer, w, np.ones((2, 2)))
    dead = ops.convert_to_numpy(optimizer.mask(w)) == 0
    assert dead.any()
    returned = step(optimizer, w, np.ones((2, 2)))
    assert np.all(ops.convert_to_numpy(optimizer.mask(w)) == 1)
    np.testing.assert_array_equal(returned[dead], 0)
    np.testing.assert_array_equal(ops.convert_to_numpy(inner.momentums[0])[dead], 0)


def test_cycle_from_a_sparse_start_does_not_regrow():
    w = weight(np.arange(1.0, 101.0).reshape(10, 10))
    first = SparseOptimizer(keras.optimizers.SGD(0.0), "constant", 0.5, total_steps=2)
    step(first, w, np.zeros((10, 10)))
    second = SparseOptimizer(keras.optimizers.SGD(0.0), "linear", 0.9, total_steps=4)
    second.build([w])
    second.continue_from(first)
    zeros = [int(np.sum(step(second, w, np.zeros((10, 10))) == 0)) for _ in range(4)]
    assert zeros == [60, 70, 80, 90]


def test_global_norm_clipping_ignores_pruned_gradients():
    w = weight([[4.0, 1.0], [-3.0, 2.0]])
    inner = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    optimizer = SparseOptimizer(inner, "constant", 0.5, total_steps=9)
    step(optimizer, w, np.zeros((2, 2)))
    np.testing.assert_allclose(step(optimizer, w, [[1, 1e6], [0, 1e6]]), [[3, 0], [-3, 0]])


def test_set_sparsity_reaches_a_compiled_step():
    model = testing.small_model()
    optimizer = SparseOptimizer("sgd", "linear", 0.5, tfsparse.Magnitude(scope="layer"), total_steps=12)
    model.compile(optimizer, "mse")
    x, _ = testing.small_data()
    y = np.zeros((len(x), 4), "float32")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    optimizer.set_sparsity(model.get_layer("hidden"), 0.75)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    kernel = model.get_layer("hidden").kernel
    assert np.mean(ops.convert_to_numpy(kernel) == 0) == 0.75


def test_variables_that_are_no_kernels_can_be_included():
    embedding = weight(np.arange(1.0, 9.0).reshape(4, 2), "embeddings")
    optimizer = SparseOptimizer(keras.optimizers.SGD(0.0), schedule="constant", sparsity=0.5, total_steps=2)
    optimizer.set_sparsity(embedding, 0.5)
    np.testing.assert_array_equal(step(optimizer, embedding, np.zeros((4, 2))), [[0, 0], [0, 0], [5, 6], [7, 8]])


def test_exclusion_by_words():
    a, b = weight(np.ones((2, 2))), weight(np.ones((2, 2)), "special_kernel")
    optimizer = SparseOptimizer("sgd", total_steps=2)
    optimizer.exclude_from_pruning(var_names=["special"])
    optimizer.build([a, b])
    assert optimizer.pruned_variables == [a]
    with pytest.raises(ValueError, match="is not pruned"):
        optimizer.mask(b)


def test_forwards_the_inner_optimizer():
    inner = keras.optimizers.Adam(1e-3, use_ema=True, weight_decay=0.1)
    optimizer = SparseOptimizer(inner, total_steps=10)
    optimizer.learning_rate = 0.5
    assert float(ops.convert_to_numpy(inner.learning_rate)) == 0.5
    assert optimizer.use_ema
    assert optimizer.weight_decay == 0.1
    assert optimizer.iterations is inner.iterations
    optimizer.loss_scale_factor = 4.0
    assert inner.loss_scale_factor == 4.0


def test_nan_is_an_error_at_the_update():
    w = weight([[4.0, 1.0], [-3.0, 2.0]])
    optimizer = SparseOptimizer(keras.optimizers.SGD(1.0), schedule="constant", total_steps=5)
    with pytest.raises(ValueError, match="holds NaN or infinity at step 1"):
        step(optimizer, w, [[np.nan, 0], [0, 0]])


def copies(optimizer):
    """Copies of an optimizer by each way that Python has."""
    return [pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]


def test_an_optimizer_that_is_not_built_has_no_masks_and_no_steps():
    optimizer = SparseOptimizer(keras.optimizers.Adam(0.25), "linear", 0.75, total_steps=9)
    for each in (optimizer, *copies(optimizer), SparseOptimizer.from_config(optimizer.get_config())):
        assert (each.masks, each.pruned_variables, each.extra_state) == ([], [], {})
        assert (each.steps_done, each.num_zeros(), each.current_sparsity(), each.total_steps) == (0, 0, 0, 9)
        assert (each.sparsity, each.schedule.start, float(ops.convert_to_numpy(each.learning_rate))) == (0.75, 0, 0.25)


UNBUILT = {
    "target": lambda optimizer: optimizer.target,
    "mask_state": lambda optimizer: optimizer.mask_state,
    "mask": lambda optimizer: optimizer.mask(weight([[1.0]])),
    "apply_masks": lambda optimizer: optimizer.apply_masks(),
    "prune_now": lambda optimizer: optimizer.prune_now(),
    "prune_to": lambda optimizer: optimizer.prune_to(1),
    "check_replicas": lambda optimizer: optimizer.check_replicas(),
    "raise_nonfinite": lambda optimizer: optimizer.raise_nonfinite(),
    "continue_from": lambda optimizer: optimizer.continue_from(optimizer),
    "add_extra_state": lambda optimizer: optimizer.add_extra_state({"a": 0.0}),
}


@pytest.mark.parametrize("use", UNBUILT.values(), ids=UNBUILT)
def test_what_needs_masks_says_that_the_optimizer_is_not_built(use):
    with pytest.raises(ValueError, match=r"sparse_sgd is not built yet, so it has no masks.*optimizer.build\("):
        use(SparseOptimizer("sgd", total_steps=9, name="sparse_sgd"))


def test_a_copy_of_a_trained_optimizer_warns_as_those_of_keras_do():
    optimizer = SparseOptimizer("adam", "constant", 0.5, total_steps=9)
    step(optimizer, weight([[4.0, 1.0], [-3.0, 2.0]]), np.ones((2, 2)))
    for each in (pickle.dumps(optimizer), pickle.dumps(optimizer.inner_optimizer)):
        with pytest.warns(UserWarning, match="are not loaded|Skipping variable loading"):
            pickle.loads(each)


def test_a_model_that_was_saved_before_training_loads_and_trains(tmp_path):
    x, y = testing.small_data()
    model = testing.small_model()
    model.compile(SparseOptimizer("adam", "constant", 0.5, total_steps=4), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="no masks for|Skipping variable loading"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(x, y, batch_size=16, verbose=0)
    assert loaded.optimizer.current_sparsity() == 0.5


def test_a_failed_build_leaves_nothing_built():
    optimizer = SparseOptimizer("adam", total_steps=9)
    for _ in range(2):
        with pytest.raises(ValueError, match="Nothing to prune"):
            optimizer.build([weight([1.0, 2.0], "bias")])
    assert not optimizer.built and not optimizer.inner_optimizer.built


def test_a_foreign_variable_has_no_mask():
    optimizer = SparseOptimizer("sgd", total_steps=9)
    optimizer.build([weight(np.ones((2, 2)))])
    with pytest.raises(ValueError, match="is not pruned"):
        optimizer.mask(weight(np.ones((2, 2))))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX has stateless steps")
@pytest.mark.parametrize("accumulation", [None, 2])
def test_a_step_on_jax_that_is_not_jitted_may_be_inside_a_branch(accumulation):
    """LossScaleOptimizer makes its step in a branch, which JAX traces although nothing around it is compiled."""
    results = []
    for scaled in (True, False):
        w = weight([[4.0, 1.0], [-3.0, 2.0]])
        inner = keras.optimizers.SGD(1.0, gradient_accumulation_steps=accumulation)
        optimizer = SparseOptimizer(inner, "constant", 0.5, total_steps=5)
        outer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0) if scaled else optimizer
        outer.build([w])
        values, state = [w.value], [v.value for v in outer.variables]
        for _ in range(4):
            values, state = outer.stateless_apply(state, [ops.ones((2, 2)) * 0.5], values)
        results.append(ops.convert_to_numpy(values[0]))
    np.testing.assert_array_equal(*results)
    assert np.count_nonzero(results[0]) == 2


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1, True, "0.5", None])
def test_bad_sparsity(sparsity):
    with pytest.raises(ValueError, match=r"a number in \[0, 1\)"):
        SparseOptimizer("sgd", sparsity=sparsity, total_steps=10)


def test_per_cent_is_recognised():
    with pytest.raises(ValueError, match="Did you mean sparsity=0.9"):
        SparseOptimizer("sgd", sparsity=90, total_steps=10)


@pytest.mark.parametrize("steps", [0, 1, -5, 2.5, True])
def test_bad_total_steps(steps):
    with pytest.raises(ValueError, match="at least 2 training steps"):
        SparseOptimizer("sgd", total_steps=steps)


def test_unknown_length_is_said_at_the_first_step():
    with pytest.raises(ValueError, match="total_steps=10_000"):
        step(SparseOptimizer("sgd"), weight([[1.0, 2.0]]), [[0, 0]])


def test_loss_scale_goes_outside():
    with pytest.raises(ValueError, match=r"LossScaleOptimizer\(SparseOptimizer"):
        SparseOptimizer(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), total_steps=10)
    with pytest.raises(ValueError, match="wraps an optimizer already"):
        SparseOptimizer(SparseOptimizer("sgd", total_steps=10), total_steps=10)


def test_nothing_prunable():
    with pytest.raises(ValueError, match="Nothing to prune"):
        SparseOptimizer("sgd", total_steps=10).build([weight([1.0, 2.0], "bias")])


def test_wish_for_a_foreign_variable():
    optimizer = SparseOptimizer("sgd", total_steps=10)
    optimizer.set_sparsity(weight(np.ones((2, 2))), 0.5)
    with pytest.raises(ValueError, match="not among the trainable variables"):
        optimizer.build([weight(np.ones((2, 2)))])


def test_global_target_is_shared():
    optimizer = SparseOptimizer("sgd", pruner=tfsparse.Magnitude(scope="global"), total_steps=10)
    a, b = weight(np.ones((4, 4))), weight(np.ones((4, 4)))
    optimizer.build([a, b])
    with pytest.raises(ValueError, match="shares one global target"):
        optimizer.set_sparsity(a, 0.9)


def test_a_file_without_masks_is_refused(tmp_path):
    x, y = testing.small_data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain = testing.small_model()
    plain.compile("adam", loss)
    plain.fit(x, y, batch_size=16, verbose=0)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = testing.small_model()
    model.compile(SparseOptimizer("adam", total_steps=10), loss)
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="no masks"):
        model.load_weights(tmp_path / "plain.weights.h5")


def test_targets_of_more_than_31_bits_together_are_compared_exactly():
    model = testing.small_model()
    optimizer = SparseOptimizer("sgd", "linear", sparsity=0.5, total_steps=10)
    optimizer.build(model.trainable_variables)
    optimizer.target.assign([2_000_000_000] * len(optimizer.masks))
    assert optimizer.has_target_at(10) and not optimizer.has_target_at(9)
    assert not optimizer.reached_target()


def test_a_mask_takes_a_byte_per_weight():
    model = testing.small_model()
    optimizer = SparseOptimizer("sgd", total_steps=10)
    optimizer.build(model.trainable_variables)
    assert {np.dtype(ops.convert_to_numpy(mask).dtype) for mask in optimizer.masks} == {np.dtype("uint8")}
