import keras
import numpy as np
import pytest
import reference
from keras import ops

from tfsparse import Feather, Magnitude, Polynomial, Prune, SparseOptimizer
from tfsparse.optimizers import compiled_model
from tfsparse.testing import fixtures


def variable(values, name="kernel"):
    return keras.Variable(np.array(values, "float32"), name=name)


def numpy(values):
    return [ops.convert_to_numpy(v) for v in values]


def forward(pruner, weights, masks):
    arrays = [[np.array(a, "float32") for a in group] for group in (weights, masks)]
    return numpy(pruner.forward(*arrays))


def sparse(pruner, variables, inner=None, sparsity=0.5, schedule="constant", total=100):
    optimizer = SparseOptimizer(inner or keras.optimizers.SGD(1.0), schedule, sparsity, pruner, total_steps=total)
    optimizer.build(variables)
    return optimizer


def step(optimizer, variables, gradients):
    optimizer.apply([ops.convert_to_tensor(np.array(g, "float32")) for g in gradients], variables)
    return numpy(variables)


def test_forward_golden():
    """With tau = 1 the kept weights become the cube roots of 8 - 1 and 27 - 1."""
    values = forward(Feather(), [[[2.0, -3.0], [-1.0, 0.5]]], [[[1, 1], [0, 0]]])
    np.testing.assert_allclose(values[0], [[7 ** (1 / 3), -(26 ** (1 / 3))], [0, 0]], rtol=1e-6)


def test_golden_a_layer_that_keeps_smaller_weights_has_a_threshold_of_its_own():
    weights, masks = [[3.0, 1.0], [5.0, 2.0], [0.5, 0.25]], [[1, 0], [1, 0], [1, 0]]
    values = forward(Feather(), weights, masks)
    expected = [[19 ** (1 / 3), 0], [117 ** (1 / 3), 0], [(1 / 8 - 1 / 64) ** (1 / 3), 0]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(forward(Feather(scope="layer"), weights, masks)[0], [26 ** (1 / 3), 0], rtol=1e-6)


def test_dense_and_tiny_weights_are_not_changed():
    weights = [np.array([3.7, -1e-20, 0.0, 1e-35], "float32")]
    np.testing.assert_array_equal(forward(Feather(), weights, [[1, 1, 1, 1]])[0], weights[0])
    assert forward(Feather(), [[2e-20, 1e-20]], [[1, 0]])[0][0] > 1.9e-20  # |w|^3 would be zero


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_steps_of_momentum_sgd_equal_the_reference(theta):
    """Masks and weights; gradients are scaled by theta where the mask is zero."""
    random = np.random.default_rng(0)
    dense = [random.normal(size=(6, 5)).astype("float32"), random.normal(size=(8, 3)).astype("float32") * 0.5]
    variables = [variable(d) for d in dense]
    optimizer = sparse(Feather(theta=theta), variables, keras.optimizers.SGD(0.1, momentum=0.9), 0.6)
    masks, momentum = [np.ones_like(d) for d in dense], [np.zeros_like(d) for d in dense]
    for _ in range(8):
        gradients = [random.normal(size=d.shape).astype("float32") for d in dense]
        shown = step(optimizer, variables, gradients)
        for i, gradient in enumerate(gradients):
            momentum[i] = np.float32(0.9) * momentum[i] - np.float32(0.1) * gradient * np.where(masks[i] > 0, 1, theta)
            dense[i] = (dense[i] + momentum[i]).astype("float32")
        masks = reference.global_masks([np.abs(d) for d in dense], 0.6)
        for mask, expected in zip(numpy(optimizer.masks), masks, strict=True):
            np.testing.assert_array_equal(mask, expected)
        for value, expected in zip(shown, reference.feather(dense, masks), strict=True):
            np.testing.assert_allclose(value, expected, rtol=2e-3, atol=1e-4)  # near tau a cube root magnifies


def test_golden_a_pruned_weight_returns_with_the_value_it_reached():
    w = variable([[4.0, 1.0]])
    optimizer = sparse(Feather(), [w])
    np.testing.assert_allclose(step(optimizer, [w], [[[0, 0]]])[0], [[63 ** (1 / 3), 0]], rtol=1e-6)
    np.testing.assert_allclose(step(optimizer, [w], [[[0, -2]]])[0], [[37 ** (1 / 3), 0]], rtol=1e-6)  # hidden: 3
    np.testing.assert_allclose(step(optimizer, [w], [[[0, -2]]])[0], [[0, 61 ** (1 / 3)]], rtol=1e-6)  # hidden: 5


def test_masks_are_updated_at_every_step_after_the_end_of_the_schedule_too():
    w = variable([[4.0, 1.0]])
    optimizer = sparse(Feather(), [w], schedule=Polynomial(start=0.0, end=0.5, updates=1), total=4)
    for gradient in ([0, 0], [0, 0], [0, -9], [0, 9], [0, -9], [0, 9]):
        shown = step(optimizer, [w], [[gradient]])[0]
        assert np.flatnonzero(shown[0]).tolist() == [int(gradient[1] < 0)]


def test_apply_masks_makes_an_assigned_value_the_dense_weight():
    w = variable([[4.0, 1.0, 3.0, 2.0]])
    optimizer = sparse(Feather(), [w], sparsity=0.5)
    before = step(optimizer, [w], [np.zeros((1, 4))])[0]
    optimizer.apply_masks()  # nothing was written
    np.testing.assert_array_equal(ops.convert_to_numpy(w), before)
    w.assign([[9.0, 8.0, before[0, 2], 0.0]])
    optimizer.apply_masks()  # dense: 9, 8, 3, 2
    np.testing.assert_allclose(ops.convert_to_numpy(w), [[702 ** (1 / 3), 485 ** (1 / 3), 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(step(optimizer, [w], [[[0, 0, -6, 0]]])[0], [[217 ** (1 / 3), 0, 217 ** (1 / 3), 0]])


def test_a_second_cycle_continues_with_the_dense_weights():
    model = fixtures.fit(Feather(), prune=Prune("linear", 0.5, Feather()))
    first = compiled_model.sparse_optimizer(model)
    dense = numpy(first.mask_state.storage.dense_weights)
    second = compiled_model.sparsify(model, "linear", 0.75, Feather(), total_steps=4)
    for mine, theirs in zip(numpy(second.mask_state.storage.dense_weights), dense, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    third = compiled_model.sparsify(model, "linear", 0.75, Magnitude(), total_steps=4)
    assert third.mask_state.storage.dense_weights == []


def test_other_pruners_have_no_dense_weights():
    plain = sparse(Magnitude(), [variable([[4.0, 1.0]])])
    feather = sparse(Feather(), [variable([[4.0, 1.0]])])
    assert len(feather.variables) == len(plain.variables) + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "channel"}, r"granularity='channel': expected \"weight\""),
        ({"theta": 1.5}, r"theta=1.5: expected a number in \[0, 1\]"),
        ({"scope": "global", "allocation": "erk"}, "drop one of them"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Feather(**options)
