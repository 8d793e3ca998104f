import keras
import numpy as np
import pytest
import reference
from keras import ops

from tfsparse import Polynomial, Prune, SparseOptimizer, prune, testing
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Movement
from tfsparse.testing import fixtures


def mask(weight, total, num_pruned):
    weight, total = np.array(weight, "float32"), np.array(total, "float32")
    return ops.convert_to_numpy(next(iter(Movement().masks([weight], [total], [np.ones_like(weight)], [num_pruned]))))


def sparse(variables, inner, sparsity=0.5):
    optimizer = SparseOptimizer(inner, "constant", sparsity, Movement(), total_steps=100)
    optimizer.build(variables)
    return optimizer


def step(optimizer, variables, gradients):
    optimizer.apply([ops.convert_to_tensor(np.array(g, "float32")) for g in gradients], variables)
    return [ops.convert_to_numpy(v) for v in variables]


def test_golden_weights_that_moved_to_zero_go_first_and_the_farthest_of_them_before_the_others():
    weight, total = [[1, -1, 2], [-2, 1, -1]], [[-0.5, 3, 2], [-8, -2, 0]]
    golden = [[[1, 1, 1], [0, 1, 1]], [[1, 1, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 0]]]
    for num_pruned, expected in enumerate(golden, 1):
        np.testing.assert_array_equal(mask(weight, total, num_pruned), expected)


def test_a_weight_that_is_zero_ranks_below_a_weight_that_moved_to_zero():
    np.testing.assert_array_equal(mask([[0, 1, 1]], [[0, -9, 1]], 1), [[0, 1, 1]])


def test_golden_sums_of_three_steps_and_a_pruned_weight_that_returns_with_its_value():
    w = keras.Variable(np.array([[2.0, -1.0]], "float32"), name="kernel")
    optimizer = sparse([w], keras.optimizers.SGD(0.5))
    for gradient, total, value in [
        ([-1, -3], [2, -3], [2.5, 0]),  # S = -w g; the second weight, now 0.5, is pruned
        ([2, -8], [-3, 1], [0, 0.5]),  # -2.5 * 2, -0.5 * -8: the second returns, the first, now 1.5, is pruned
        ([-4, 1], [3, 0.5], [1.5, 0]),  # -1.5 * -4, -0.5 * 1: the first returns; it stood still
    ]:
        np.testing.assert_allclose(step(optimizer, [w], [[gradient]])[0], [value], rtol=1e-6)
        np.testing.assert_allclose(ops.convert_to_numpy(optimizer.mask_state.sums[0]), [total], rtol=1e-6)


def test_masks_and_weights_of_many_steps_equal_the_reference():
    random = np.random.default_rng(0)
    dense = [random.normal(size=shape).astype("float32") for shape in ((6, 5), (8, 3))]
    variables = [keras.Variable(d, name="kernel") for d in dense]
    optimizer = sparse(variables, keras.optimizers.SGD(0.1), 0.6)
    masks, totals = [np.ones_like(d) for d in dense], [np.zeros_like(d) for d in dense]
    for _ in range(8):
        gradients = [random.normal(size=d.shape).astype("float32") for d in dense]
        shown = step(optimizer, variables, gradients)
        for i, gradient in enumerate(gradients):
            totals[i] = totals[i] - dense[i] * gradient
            dense[i] = dense[i] - np.float32(0.1) * gradient * masks[i]
        lowest = min(t.min() for t in totals)
        masks = reference.global_masks([t - lowest for t in totals], 0.6)
        for value, expected in zip(shown, [d * m for d, m in zip(dense, masks, strict=True)], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_a_weight_whose_gradients_have_both_signs_outlives_one_bad_batch():
    w = keras.Variable(np.array([[1.0, 1.0, 1.0, 1.0]], "float32"), name="kernel")
    optimizer = sparse([w], keras.optimizers.SGD(0.0))
    step(optimizer, [w], [[[-9, -8, -1, 0]]])
    assert (step(optimizer, [w], [[[5, 5, 0, 0]]])[0] != 0).tolist() == [[True, True, False, False]]


@pytest.mark.filterwarnings("ignore:Training ended at step")
def test_training_that_ends_early_is_cut_by_the_sums():
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = fixtures.small_model()
    fixtures.fit(Movement(), model=model, prune=Prune(Polynomial(end=1.0), 0.8, Movement()), callbacks=[stop])
    assert compiled_model.sparse_optimizer(model).current_sparsity() == pytest.approx(0.8, abs=0.01)


def test_a_second_schedule_continues_with_the_sums():
    first = compiled_model.sparse_optimizer(model := fixtures.fit(Movement()))
    before = fixtures.to_arrays(first.mask_state.sums)
    second = compiled_model.sparsify(model, "linear", 0.75, Movement(), total_steps=4)
    for mine, theirs in zip(fixtures.to_arrays(second.mask_state.sums), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_prune_once_scores_the_gradients_of_the_data():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    model.compile(loss="mse")
    model.set_weights([np.array([[1.0, 2.0], [3.0, 4.0]], "float32")])
    x, y = np.eye(2, dtype="float32"), np.array([[0.0, 9.0], [9.0, 5.0]], "float32")
    prune(model, 0.5, "movement", data=(x, y))  # of w - y = 1, -7; -6, -1 the products with -w are -1, 14; 18, 4
    np.testing.assert_array_equal(model.get_weights()[0], [[0, 2], [3, 0]])


def test_movement_passes_the_checks_outside_training():
    for options in ({}, {"granularity": "2:4"}, {"granularity": "channel", "scope": "global"}):
        testing.check_config(Movement(**options))
        testing.check_exact_count_with_ties(Movement(**options))


def test_the_sums_are_saved_and_resumed():
    testing.check_resume_from_file(Movement())
