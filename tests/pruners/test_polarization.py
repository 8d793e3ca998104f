import keras
import numpy as np
import pytest
import reference
from keras import layers, ops
from sklearn.datasets import load_digits

from tfsparse import Polynomial, Prune, SparseOptimizer, prune, shrink, testing
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Movement, Polarization


def sparse(variables, pruner=None, sparsity=0.5, rate=0.0):
    sgd = keras.optimizers.SGD(rate)
    optimizer = SparseOptimizer(sgd, "constant", sparsity, pruner or Polarization(), total_steps=100)
    optimizer.build(variables)
    return optimizer


def step(optimizer, variables, gradients):
    optimizer.apply([ops.convert_to_tensor(np.array(g, "float32")) for g in gradients], variables)
    return [ops.convert_to_numpy(v) for v in variables]


def gates(optimizer):
    return [ops.convert_to_numpy(a) for a in optimizer.mask_state.sums]


def kernel(values):
    return keras.Variable(np.array(values, "float32"), name="kernel")


def test_golden_gates_of_two_channels_of_a_quadratic():
    """L = sum (w' - y)^2 / 2, w = 1, 1 and y = 2, -1: the first channel lowers L, the second one raises it."""
    y = np.array([[2.0, -1.0]])
    w = kernel([[1.0, 1.0]])
    optimizer, shown = sparse([w]), np.array([[1.0, 1.0]])
    shown = step(optimizer, [w], [shown - y])[0]  # dL/db = w (w' - y) = -1, 2, divided by sqrt(5 / 2); p = 0.5, 0.5
    np.testing.assert_allclose(gates(optimizer)[0], [0.015811, -0.031623], rtol=1e-4)
    np.testing.assert_array_equal(shown, [[1, 0]])
    step(optimizer, [w], [shown - y])  # dL/db = -1, 1; a - threshold = 0.023717, -0.023717
    np.testing.assert_allclose(gates(optimizer)[0], [0.041104, -0.056916], rtol=1e-4)


def test_the_gradient_of_a_gate_is_the_derivative_of_the_loss_by_b():
    random = np.random.default_rng(0)
    x, y, w = (random.normal(size=shape) for shape in ((7, 5), (7, 4), (5, 4)))

    def loss(b):
        return np.sum(np.square(x @ (w * b) - y))

    derivative = np.array([(loss(1 + h) - loss(1 - h)) / 2e-4 for h in 1e-4 * np.eye(4)])
    gradient = 2 * x.T @ (x @ w - y)
    optimizer = sparse([v := kernel(w)], Polarization(rate=4.0))  # of the first step only: p (1 - p) = 1/4, 1 - 2 p = 0
    step(optimizer, [v], [gradient])
    np.testing.assert_allclose(gates(optimizer)[0], -derivative / np.sqrt(np.mean(derivative**2)), rtol=1e-4)


def test_golden_gates_without_gradients_are_pushed_apart_and_hardly_move_at_the_ends():
    pruner, nothing = Polarization(), np.zeros((2, 4), "float32")
    a, mask = np.array([6.0, 1, -1, -5], "float32"), np.array([[1.0, 1, 0, 0]] * 2, "float32")
    new = next(iter(pruner.accumulate([a], [nothing], [nothing], [mask])))
    # threshold 0; p = 0.9975, 0.7311, 0.2689, 0.0067; 0.1 p (1 - p) (2 p - 1) = 0.00025, 0.0091, -0.0091, -0.00066
    np.testing.assert_allclose(ops.convert_to_numpy(new), [6.00025, 1.00909, -1.00909, -5.00066], rtol=1e-5)


def test_golden_a_kept_channel_below_a_pruned_one_of_another_layer_does_not_move_the_common_threshold():
    a, masks = [np.array([2.0, -1], "float32"), np.array([-3.0], "float32")], [np.array([[1.0, 0]]), np.array([[1.0]])]
    zeros = [np.zeros_like(mask) for mask in masks]
    new = Polarization(scope="global").accumulate(a, zeros, zeros, masks)
    # threshold (2 - 1) / 2; p = 0.8176, 0.1824; 0.0293
    new = [ops.convert_to_numpy(own).tolist() for own in new]
    assert new == [pytest.approx([2.009473, -1.009473], rel=1e-6), pytest.approx([-3.002678], rel=1e-6)]


def reference_step(a, w, gradient, kept, rate, strength, together):
    """One step of the gates, one by one. All arguments are lists of arrays, one per weight."""
    result = [np.array(own) for own in a]
    for i, own in enumerate(a):
        group = range(len(a)) if together else [i]
        pruned = [a[k][c] for k in group for c in range(len(a[k])) if not kept[k][c]]
        above = [a[k][c] for k in group for c in range(len(a[k])) if kept[k][c] and a[k][c] >= max(pruned, default=-99)]
        threshold = (max(pruned) + min(above)) / 2 if pruned else min(above)
        effects = [float(np.sum(w[i][..., c] * gradient[i][..., c])) for c in range(len(own))]
        rms = (sum(e * e for e in effects) / len(effects)) ** 0.5
        for c, effect in enumerate(effects):
            p = 1 / (1 + np.exp(threshold - own[c]))
            result[i][c] -= rate * p * (1 - p) * (effect / rms + strength * (1 - 2 * p))
    return result


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gates_masks_and_weights_of_many_steps_equal_the_reference(scope):
    random = np.random.default_rng(0)
    w = [random.normal(size=shape).astype("float32") for shape in ((8, 5), (2, 2, 2, 10))]  # eight entries per channel
    variables, a, kept = [kernel(own) for own in w], [np.zeros(5), np.zeros(10)], [np.ones(5), np.ones(10)]
    optimizer = sparse(variables, Polarization(scope=scope, rate=0.5, strength=2.0), 0.6, rate=0.1)
    seen = set()
    for _ in range(12):
        gradients = [random.normal(size=own.shape).astype("float32") for own in w]
        shown = step(optimizer, variables, gradients)
        a = reference_step(a, w, gradients, kept, 0.5, 2.0, together=scope == "global")
        w = [own - np.float32(0.1) * g * k for own, g, k in zip(w, gradients, kept, strict=True)]
        lowest = min(own.min() for own in a)
        positive = [own - lowest for own in a]
        masks = reference.global_masks(positive, 0.6) if scope == "global" else None
        kept = masks or [reference.topk_mask(own, 0.6) for own in positive]
        seen.add(tuple(np.concatenate(kept)))
        np.testing.assert_allclose(np.concatenate(gates(optimizer)), np.concatenate(a), rtol=1e-4, atol=1e-6)
        for value, own, k in zip(shown, w, kept, strict=True):
            np.testing.assert_allclose(value, own * k, rtol=1e-5, atol=1e-6)
    assert len(seen) > 2  # channels were exchanged


def test_a_pruned_channel_stands_still_and_returns_with_its_weights():
    w = kernel([[2.0, 1.0], [1.0, 3.0]])
    optimizer = sparse([w], Polarization(rate=1.0), rate=0.5)
    assert step(optimizer, [w], [[[0, 4], [0, 0]]])[0].tolist() == [[2, 0], [1, 0]]  # the second, now -1, 3, goes
    assert step(optimizer, [w], [[[4, -9], [0, -9]]])[0].tolist() == [[0, -1], [0, 3]]  # dL/db = 8, 9 - 27
    assert step(optimizer, [w], [[[0, 0], [0, -9]]])[0].tolist() == [[0, -1], [0, 7.5]]


@pytest.mark.filterwarnings("ignore:.*prunes whole units")
def test_a_layer_is_never_emptied():
    for scope in ("layer", "global"):
        variables = [kernel(np.ones((3, 4))), kernel(np.ones((3, 2)))]
        shown = step(sparse(variables, Polarization(scope=scope), 0.95), variables, [np.ones((3, 4)), np.ones((3, 2))])
        assert [int(np.sum(value.any(axis=0))) for value in shown] == [1, 1]


def digits_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, name="conv1"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(12, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(20, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    return model


def test_half_of_the_channels_of_a_network_for_digits_are_removed_and_no_output_changes():
    digits = load_digits()
    x, y = digits.images[..., None].astype("float32") / 16, digits.target
    model = digits_model()
    half = Polynomial(start=0.0, end=0.5)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[Prune(half, 0.5, "polarization", skip_last=True)])
    small = shrink(model)
    assert [small.get_layer(name).kernel.shape[-1] for name in ("conv1", "conv2", "hidden", "head")] == [4, 6, 10, 10]
    np.testing.assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4)
    assert small.evaluate(x, y, verbose=0)[1] > 0.8
    assert [a.shape for a in gates(compiled_model.sparse_optimizer(model))] == [(8,), (12,), (20,)]


def test_prune_once_decides_by_the_gradients_of_the_data():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False)])
    model.compile(loss="mse")
    model.set_weights([np.array([[1.0, 2.0], [3.0, 4.0]], "float32")])
    x, y = np.eye(2, dtype="float32"), np.array([[0.0, 9.0], [2.0, 5.0]], "float32")
    prune(model, 0.5, "polarization", data=(x, y))  # of w - y = 1, -7; 1, -1 the sums with w are 4, -18
    np.testing.assert_array_equal(model.get_weights()[0], [[0, 2], [0, 4]])


def test_a_second_schedule_of_another_pruner_does_not_continue_with_its_sums():
    model = testing.fixtures.fit(Polarization())
    second = compiled_model.sparsify(model, "linear", 0.75, Polarization(rate=0.2), total_steps=4)
    assert all(np.any(a) for a in gates(second))
    third = compiled_model.sparsify(model, "linear", 0.8, Movement(), total_steps=4)
    assert not any(np.any(total) for total in gates(third))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "weight"}, r"granularity='weight': expected \"channel\".* Polarization\(\), or Movement"),
        ({"rate": 0.0}, r"rate=0.0: expected a number above 0, for example rate=0.1"),
        ({"strength": -1}, r"strength=-1: expected a number >= 0, such as strength=1.0"),
        ({"scope": "global", "allocation": "erk"}, "drop one of them"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Polarization(**options)


def test_polarization_passes_the_checks_outside_training():
    for options in ({}, {"scope": "global"}, {"allocation": "erk", "strength": 0.0}):
        testing.check_config(Polarization(**options))
        testing.check_exact_count_with_ties(Polarization(**options))


@pytest.mark.filterwarnings("ignore:.*prunes whole units")
def test_the_gates_are_saved_and_resumed():
    testing.check_resume_from_file(Polarization())
