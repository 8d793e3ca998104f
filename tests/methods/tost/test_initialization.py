import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import gradinit, testing
from tfsparse.methods.tost.initialization import ScaleAdam, _functions
from tfsparse.optimizers.calibration import Calibration

random = np.random.default_rng(2)
X, Y = random.normal(size=(24, 3)).astype("float32"), random.normal(size=(24, 1)).astype("float32")


def linear(weights):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign(weights)
    return model


def reference(weights, iterations, batch_size, gamma, eta, rate, seed):
    """The scale of the kernel of a linear model with bias 0, in NumPy: Adam is written out."""
    draw, scale, half = np.random.default_rng(seed), 1.0, batch_size // 2
    means, steps, square, kinds = {True: 0.0, False: 0.0}, {True: 0, False: 0}, 0.0, []
    initial = np.array([*weights[:, 0], 0.0])  # the bias is the last
    for _ in range(iterations):
        rows = draw.choice(24, 3 * half, replace=False)
        (a, y_a), (b, y_b) = (
            (np.c_[X[r].astype("float64"), np.ones(len(r))], Y[r, 0]) for r in (rows[: 2 * half], rows[half:])
        )
        w = scale * initial
        g = 2 * a.T @ (a @ w - y_a) / len(a)
        norm = np.sqrt(g @ g)
        is_constraint = bool(norm > gamma)
        if is_constraint:
            slope = initial @ (2 * a.T @ a / len(a) @ g) / norm
        else:
            slope = initial @ (2 * b.T @ (b @ (w - eta * g / norm) - y_b) / len(b)) / eta
        slope = min(max(slope, -1), 1)
        steps[is_constraint] += 1
        means[is_constraint] = 0.9 * means[is_constraint] + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        mean = means[is_constraint] / (1 - 0.9 ** steps[is_constraint])
        root = np.sqrt(square / (1 - 0.999 ** sum(steps.values())))
        scale = max(scale - rate * mean / (root + 1e-8), 0.01)
        kinds.append(is_constraint)
    return scale, kinds


@pytest.mark.parametrize("eta", [0.1, 4.0])
def test_the_scale_is_that_of_the_reference(eta):
    weights = np.array([[1.5], [-2.0], [0.5]], "float32")
    options = {"iterations": 60, "batch_size": 8, "gamma": 5.0, "eta": eta, "rate": 0.02, "seed": 3}
    expected, kinds = reference(weights, **options)
    assert {*kinds} == {True, False}  # steps on the norm and on the loss
    model = linear(weights)
    scales = gradinit(model, (X, Y), **options)
    assert scales == {model.layers[0].kernel.path: pytest.approx(expected, rel=1e-4), model.layers[0].bias.path: 1.0}
    np.testing.assert_allclose(ops.convert_to_numpy(model.layers[0].kernel), weights * expected, rtol=1e-4)
    np.testing.assert_array_equal(model.layers[0].bias, [0.0])


def test_golden_steps_of_scales():
    adam = ScaleAdam([0.01, 0.0], rate=0.25)
    adam.update(np.array([0.5, -8.0]), is_constraint=False)  # -8 counts as -1
    np.testing.assert_allclose(adam.values, [0.75, 1.25], atol=1e-6)
    adam.update(np.array([1.0, 0.0]), is_constraint=True)  # a first moment of its own
    second = [np.sqrt((0.999 * 0.25 + 1) / 1.999), 1]
    np.testing.assert_allclose(adam.values, [0.75 - 0.25 / second[0], 1.25], atol=1e-6)
    for _ in range(3):
        adam.update(np.array([1.0, 1.0]), is_constraint=True)
    assert adam.values[0] == 0.01  # the least value


def network():
    """Dense 3-4, BatchNormalization, tanh, Dense 4-1, all without zeros."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Dense(1),
        ]
    )
    draw = np.random.default_rng(6)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    model.compile("sgd", "mse")
    return model


def test_derivatives_by_scales_are_those_of_differences():
    model, eta, rows = network(), 0.5, np.arange(12)
    initial = [np.array(ops.convert_to_numpy(v), "float64") for v in model.trainable_variables]

    def loss(weights):
        first, gamma, beta, last, bias = weights
        hidden = X[rows].astype("float64") @ first
        hidden = np.tanh((hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3) * gamma + beta)
        return np.mean((hidden @ last + bias - Y[rows]) ** 2)

    def differences(function, point, step=1e-4):
        moves = np.eye(len(point)) * step
        return np.array([(function(point + m) - function(point - m)) / (2 * step) for m in moves])

    def scaled(scales):
        return [w * s for w, s in zip(initial, scales, strict=True)]

    def flat_gradient(scales):
        flat = np.concatenate([np.ravel(w) for w in scaled(scales)])
        cuts = np.cumsum([w.size for w in initial])[:-1]

        def flat_loss(values):
            return loss([v.reshape(w.shape) for v, w in zip(np.split(values, cuts), initial, strict=True)])

        return differences(flat_loss, flat), cuts

    scales = np.array([0.8, 1.2, 0.9, 1.1, 0.7])
    gradient, cuts = flat_gradient(scales)
    norm = np.linalg.norm(gradient)
    direction = [d.reshape(w.shape) for d, w in zip(np.split(gradient / norm, cuts), initial, strict=True)]

    calibration = Calibration(model, model.trainable_variables, (X, Y))
    functions = _functions(calibration, [w.astype("float32") for w in initial], eta)
    found, found_norm = functions[0](scales.astype("float32"), rows)
    assert float(found_norm) == pytest.approx(norm, rel=1e-4)
    for one, expected in zip(found, direction, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(one), expected, atol=1e-4)
    expected = differences(lambda s: np.linalg.norm(flat_gradient(s)[0]), scales, 1e-3)
    np.testing.assert_allclose(functions[1](scales.astype("float32"), rows, found), expected, rtol=2e-3, atol=1e-3)

    def loss_after_step(s):
        return loss([w - eta * d for w, d in zip(scaled(s), direction, strict=True)]) / eta

    expected = differences(loss_after_step, scales)
    np.testing.assert_allclose(functions[2](scales.astype("float32"), rows, found), expected, rtol=1e-3, atol=1e-4)


def test_large_weights_become_smaller_and_nothing_else_is_written():
    model, (x, y) = network(), (X, Y)
    state = [np.array(ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    before = model.evaluate(x, y, verbose=0)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 10)
    scales = gradinit(model, (x, y), batch_size=16, rate=0.05)
    assert scales[model.layers[-1].kernel.path] < 0.5
    assert model.evaluate(x, y, verbose=0) != before
    for variable, value in zip(model.non_trainable_variables, state, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_it_goes_with_smooth_activations_smoothed_labels_and_a_pruner():
    x, y = testing.small_data()
    model = tfsparse.tost(testing.small_model())
    model.compile("sgd", tfsparse.SmoothedCrossentropy(from_logits=True))
    names = [v.path for v in model.trainable_variables]
    scales = gradinit(model, (x, y), batch_size=32, iterations=3)
    assert [*scales] == names
    assert all(s != 1 for name, s in scales.items() if name.endswith("kernel"))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[tfsparse.Prune("constant", 0.95, "random"), tfsparse.ToST()])
    assert tfsparse.report(tfsparse.finalize(model)).sparsity > 0.94


@pytest.mark.parametrize("name", ["iterations", "batch_size", "rate", "eta", "gamma"])
def test_options_out_of_range_are_errors(name):
    with pytest.raises(ValueError, match=f"{name}=0: expected a number above 0"):
        gradinit(linear(np.ones((3, 1))), (X, Y), **{name: 0})


def test_data_that_does_not_suffice_is_an_error():
    model = linear(np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"data has 24 rows, gradinit expects 1.5 \* batch_size = 48"):
        gradinit(model, (X, Y), batch_size=32)
    with pytest.raises(ValueError, match="batch_size=7: expected an even number"):
        gradinit(model, (X, Y), batch_size=7)
    with pytest.raises(ValueError, match="data has no labels"):
        gradinit(model, X, batch_size=8)
