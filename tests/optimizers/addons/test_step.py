"""Add-ons in training: against a reference, only where a step is made, and in everything that pruners must pass."""

import keras
import numpy as np
import pytest
from keras import ops
from thoroughly import also

import tfsparse
from tfsparse import testing
from tfsparse.testing import devices, fixtures, training

BOTH = (tfsparse.HAM(2.0, 0.1), tfsparse.SparseOpt())
ALWAYS = ["check_resume_from_file", "check_stateless_apply", "check_two_replicas_agree"]


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def kernel(values, name="kernel"):
    return keras.Variable(np.array(values, "float32"), name=name)


def apply(optimizer, gradients, variables):
    optimizer.apply([None if g is None else ops.convert_to_tensor(np.float32(g)) for g in gradients], variables)


def make(inner, sparsity=0.5, schedule="constant", pruner="magnitude", total_steps=20, addons=BOTH):
    return tfsparse.SparseOptimizer(inner, schedule, sparsity, pruner, total_steps=total_steps, addons=addons)


def scaled(gradient, mask):
    living = mask.sum(axis=0)
    return gradient * np.where(living > 0, np.sqrt(living / living.mean()), 1)


def multiplied(weight, gradient, mask, rate, alpha=2.0, beta=0.1):
    exponent = np.clip(-rate * (alpha * np.sign(weight) * gradient + beta), -5, 5)
    return np.where(mask == 1, weight * np.exp(exponent), weight)


def pruned_mask(weight, num_pruned):
    mask = np.ones_like(weight)
    mask.ravel()[np.argsort(np.abs(weight).ravel(), kind="stable")[:num_pruned]] = 0
    return mask


def test_steps_equal_the_reference():
    """SGD with momentum and a rate that falls; magnitude pruning along a line; both add-ons; a bias gets neither."""
    random, total = np.random.default_rng(0), 10
    w, bias = random.normal(size=(6, 4)), np.ones(4)
    variables = [kernel(w), kernel(bias, "bias")]
    rate = keras.optimizers.schedules.PolynomialDecay(0.2, total, 0.02)
    optimizer = make(keras.optimizers.SGD(rate, momentum=0.9), schedule="linear", total_steps=total)
    mask, velocity, bias_velocity = np.ones_like(w), np.zeros_like(w), np.zeros_like(bias)
    for step in range(1, total + 1):
        gradient, now = random.normal(size=w.shape), 0.2 - 0.018 * (step - 1)
        apply(optimizer, [gradient, np.ones(4)], variables)
        used = scaled(gradient, mask)
        velocity, bias_velocity = 0.9 * velocity - now * used, 0.9 * bias_velocity - now
        w, bias = multiplied(w + velocity, used, mask, now) * mask, bias + bias_velocity
        velocity = velocity * mask
        mask = pruned_mask(w, round(0.5 * step / total * w.size))
        w = w * mask
        np.testing.assert_array_equal(numpy(optimizer.masks[0]), mask)
        np.testing.assert_allclose(numpy(variables[0]), w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(variables[1]), bias, rtol=1e-5)
    assert np.sum(mask == 0) == 12


def test_hidden_dense_weights_are_changed_where_they_live():
    random = np.random.default_rng(1)
    dense = random.normal(size=(5, 4)).astype("float32")
    w, mask = kernel(dense), np.ones_like(dense)
    optimizer = make(keras.optimizers.SGD(0.1), pruner="feather")
    for _ in range(4):
        gradient = random.normal(size=dense.shape).astype("float32")
        apply(optimizer, [gradient], [w])
        used = scaled(gradient, mask)
        dense = multiplied(dense - 0.1 * used, used, mask, 0.1)
        mask = pruned_mask(dense, 10)
        np.testing.assert_array_equal(numpy(optimizer.masks[0]), mask)
        np.testing.assert_allclose(numpy(optimizer.mask_state.storage.dense_weights[0]), dense, rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_make_one_step():
    """Two halves of a batch: nothing after the first, and after the second what the whole batch gives."""
    random, values = np.random.default_rng(2), np.random.default_rng(3).normal(size=(4, 3))
    once, twice = kernel(values), kernel(values)
    whole = make(keras.optimizers.SGD(0.1, momentum=0.9))
    halves = make(keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2))
    for _ in range(3):
        first, second = random.normal(size=(2, 4, 3))
        before = numpy(twice)
        apply(halves, [first], [twice])
        np.testing.assert_array_equal(numpy(twice), before)
        apply(halves, [second], [twice])
        apply(whole, [(first + second) / 2], [once])
        np.testing.assert_allclose(numpy(twice), numpy(once), rtol=1e-5, atol=1e-6)


def test_a_loss_scale_is_undone():
    values, gradient = [[1.0, -2.0], [3.0, 0.5]], np.array([[1.0, 2.0], [-1.0, 0.5]])
    plain, scaled_up = kernel(values), kernel(values)
    apply(make(keras.optimizers.SGD(0.1)), [gradient], [plain])
    apply(make(keras.optimizers.SGD(0.1, loss_scale_factor=8.0)), [8 * gradient], [scaled_up])
    np.testing.assert_allclose(numpy(scaled_up), numpy(plain), rtol=1e-6)


def apply_scaled(outer, gradient, variable):
    """Make a step as `fit` does it: LossScaleOptimizer has no other on JAX."""
    if keras.backend.backend() != "jax":
        apply(outer, [gradient], [variable])
        return
    state = [v.value for v in outer.variables]
    (value,), state = outer.stateless_apply(state, [ops.convert_to_tensor(np.float32(gradient))], [variable.value])
    for each, new in zip([variable, *outer.variables], [value, *state], strict=True):
        each.assign(new)


def test_a_skipped_step_changes_nothing():
    """`LossScaleOptimizer` skips a step whose gradients are not finite."""
    w = kernel([[1.0, -2.0], [3.0, 0.5]])
    outer = keras.optimizers.LossScaleOptimizer(make(keras.optimizers.SGD(0.1), sparsity=0.0), initial_scale=1.0)
    outer.build([w])
    apply_scaled(outer, [[np.inf, 1.0], [1.0, 1.0]], w)
    np.testing.assert_array_equal(numpy(w), [[1.0, -2.0], [3.0, 0.5]])
    apply_scaled(outer, np.ones((2, 2)), w)
    assert np.all(numpy(w) != [[1.0, -2.0], [3.0, 0.5]])


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_without_a_gradient_stays():
    a, b = kernel(np.ones((2, 2))), kernel(2 * np.ones((2, 2)), "other_kernel")
    optimizer = make(keras.optimizers.SGD(0.1), sparsity=0.0)
    apply(optimizer, [np.ones((2, 2)), np.ones((2, 2))], [a, b])
    before = numpy(b)
    apply(optimizer, [np.ones((2, 2)), None], [a, b])
    np.testing.assert_array_equal(numpy(b), before)


def test_pruners_score_the_gradients_of_the_loss():
    """RigL grows where the gradient is largest; a factor of SparseOpt would choose another weight."""
    w = kernel([[4.0, 4.0], [0.1, 0.0], [0.0, 0.0]])
    pruner = tfsparse.RigL(drop_fraction=0.5, allocation="uniform")
    optimizer = make(keras.optimizers.SGD(0.0), pruner=pruner)
    optimizer.build([w])
    optimizer.masks[0].assign(np.array([[1, 1], [1, 0], [0, 0]]))
    apply(optimizer, [[[0, 0], [0, 0], [2.5, 3.0]]], [w])
    np.testing.assert_array_equal(numpy(optimizer.masks[0]), [[1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize("pruner", [tfsparse.Magnitude(), *also([tfsparse.RigL(), tfsparse.Feather()])], ids=repr)
@pytest.mark.parametrize(
    "check",
    [check if check.__name__ in ALWAYS else also([check])[0] for check in testing.checks()],
    ids=lambda check: check.__name__,
)
def test_the_battery_of_pruners_passes_with_add_ons(check, pruner, monkeypatch):
    """Resumed bit for bit, on two replicas as on one, compiled as eager, under loss scaling, and so on."""

    def prune(*arguments, **options):
        return tfsparse.Prune(*arguments, **{"addons": BOTH, **options})

    def optimizer(*arguments, **options):
        return tfsparse.SparseOptimizer(*arguments, **{"addons": BOTH, **options})

    monkeypatch.setattr(fixtures, "Prune", prune)
    monkeypatch.setattr(training, "Prune", prune)
    monkeypatch.setattr(devices, "SparseOptimizer", optimizer)
    check(pruner)
