import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import pruners

random = np.random.default_rng(4)
X, Y = random.normal(size=(40, 4)).astype("float32"), random.permutation(np.arange(40) % 3)
TEMPERATURE = 3.0


def network():
    """Dense 4-5, BatchNormalization, tanh, Dense 5-3: 35 kernel entries."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Dense(3),
        ]
    )
    draw = np.random.default_rng(6)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def rows_of_halves(samples_per_class):
    chosen = [np.flatnonzero(c == Y)[:samples_per_class] for c in range(3)]
    half = samples_per_class // 2
    return [np.concatenate([c[:half] for c in chosen]), np.concatenate([c[half:] for c in chosen])]


def loss(flat, model, halves):
    """Sum of the losses of both halves in NumPy and float64, as a function of all kernels in a row."""
    gamma, beta = (np.asarray(ops.convert_to_numpy(v), "float64") for v in model.layers[1].trainable_variables)
    first, last, total = flat[:20].reshape(4, 5), flat[20:].reshape(5, 3), 0.0
    for rows in halves:
        hidden = X[rows].astype("float64") @ first
        hidden = np.tanh((hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3) * gamma + beta)
        logits = (hidden @ last + ops.convert_to_numpy(model.layers[-1].bias)) / TEMPERATURE
        total += np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), Y[rows]])
    return total


def reference_scores(model, halves, step=1e-3):
    """w * H g by central differences."""
    point = np.concatenate([np.ravel(ops.convert_to_numpy(v)) for v in model.trainable_variables if v.name == "kernel"])
    point, moves = point.astype("float64"), np.eye(35) * step

    def gradient(at):
        return np.array([(loss(at + m, model, halves) - loss(at - m, model, halves)) / (2 * step) for m in moves])

    g = gradient(point)
    return point * (gradient(point + step * g) - gradient(point - step * g)) / (2 * step)


def test_golden_grasp():
    model = network()
    scores = reference_scores(model, rows_of_halves(8))
    kept = np.ones(35)
    kept[np.argsort(scores, kind="stable")[:14]] = 0
    assert np.sum(scores < 0) > 3  # scores of both signs
    statistics = [np.array(ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    tfsparse.prune(model, 0.4, pruners.GraSP(temperature=TEMPERATURE, samples_per_class=8), data=(X, Y))
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    found = np.concatenate([np.ravel(ops.convert_to_numpy(kernel) != 0) for kernel in kernels])
    np.testing.assert_array_equal(found, kept)
    for variable, before in zip(model.non_trainable_variables, statistics, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), before)


def test_of_two_weights_the_one_goes_without_which_the_gradient_grows():
    # loss = (w . (1, 0))^2 + (w . (2, -1))^2
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, bias_initializer=keras.initializers.Constant(-1.0))])
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign([[2.0], [5.2]])
    x, y = np.array([[1.0, 0.0], [2.0, -1.0]], "float32"), np.full((2, 1), -1.0, "float32")  # residual: w . x
    tfsparse.prune(model, 0.5, pruners.GraSP(temperature=1.0), data=(x, y))
    hessian, weights = 2 * np.array([[5.0, -2.0], [-2.0, 1.0]]), np.array([2.0, 5.2])
    scores = weights * (hessian @ hessian @ weights)
    assert scores[0] < 0 < scores[1]
    np.testing.assert_array_equal(ops.convert_to_numpy(model.layers[0].kernel)[:, 0] != 0, [False, True])


def test_labels_may_be_one_hot():
    masks, losses = [], keras.losses
    for y, loss in ((Y, losses.SparseCategoricalCrossentropy), (np.eye(3)[Y], losses.CategoricalCrossentropy)):
        model = network()
        model.compile("sgd", loss(from_logits=True))
        tfsparse.prune(model, 0.4, pruners.GraSP(samples_per_class=8), data=(X, y))
        masks.append([ops.convert_to_numpy(v) != 0 for v in model.trainable_variables])
    assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))


def test_a_class_with_too_few_samples_is_named():
    y = np.where(Y == 1, 2, Y)
    with pytest.raises(ValueError, match="data has 0 samples of class 1 of 3, GraSP expects samples_per_class=10"):
        tfsparse.prune(network(), 0.4, "grasp", data=(X, y))
    with pytest.raises(ValueError, match=r"or write GraSP\(samples_per_class=4\)"):
        tfsparse.prune(network(), 0.4, "grasp", data=(X[:15], np.arange(15) % 3))


@pytest.mark.parametrize("options", [{"temperature": 0}, {"samples_per_class": 5}, {"granularity": "channel"}])
def test_options_that_cannot_work_are_errors(options):
    with pytest.raises(ValueError, match=f"GraSP got {next(iter(options))}="):
        pruners.GraSP(**options)
