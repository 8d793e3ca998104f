import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import pruners
from tfsparse.optimizers.calibration import Calibration


def network():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, activation="relu"), layers.BatchNormalization(epsilon=0.0), layers.Dense(2)]
    )
    draw = np.random.default_rng(1)
    for variable in model.variables:
        value = draw.normal(size=variable.shape)
        variable.assign(np.abs(value) + 0.1 if variable.name == "moving_variance" else value)
    return model


def reference_scores(model):
    """|w dR/dw| with absolute values of all variables, in float64."""
    values = {v.path.split("/", 1)[1]: np.abs(np.asarray(ops.convert_to_numpy(v), "float64")) for v in model.variables}
    first, bias, gamma, beta, mean, variance, last, _ = values.values()
    if len(bias) != 4:
        raise AssertionError("another order of variables")
    scale = gamma / np.sqrt(variance)
    hidden = np.ones(3) @ first + bias
    normalized = (hidden - mean) * scale + beta
    return [first * (scale * last.sum(1)), last * np.abs(normalized)[:, None]]


def test_golden_scores():
    model = network()
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    weights = [ops.convert_to_tensor(kernel.value) for kernel in kernels]
    found = pruners.Synflow().sensitivities(Calibration(model, kernels), [ops.abs(w) for w in weights])
    for weight, sensitivity, expected in zip(weights, found, reference_scores(model), strict=True):
        score = ops.convert_to_numpy(pruners.Synflow().score(weight, sensitivity, ops.ones_like(weight)))
        np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_signs_and_all_other_variables_are_as_before():
    model = network()
    before = {v.path: np.array(ops.convert_to_numpy(v)) for v in model.variables}
    tfsparse.prune(model, 0.5, pruners.Synflow(rounds=3))
    zeros = 0
    for variable in model.variables:
        value = ops.convert_to_numpy(variable)
        if variable.name == "kernel":
            zeros += np.sum(value == 0)
            np.testing.assert_array_equal(value[value != 0], before[variable.path][value != 0])
        else:
            np.testing.assert_array_equal(value, before[variable.path])
    assert zeros == 10


def test_the_mask_does_not_depend_on_signs():
    model, positive = network(), network()
    for variable in positive.trainable_variables:
        if variable.name == "kernel":
            variable.assign(ops.abs(variable))
    for each in (model, positive):
        tfsparse.prune(each, 0.5, pruners.Synflow(rounds=3))
    for first, second in zip(model.trainable_variables, positive.trainable_variables, strict=True):
        if first.name == "kernel":
            np.testing.assert_array_equal(ops.convert_to_numpy(first) == 0, ops.convert_to_numpy(second) == 0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = layers.Dense(4, activation="relu"), layers.Dense(2)

    def call(self, x):
        return self.head(self.hidden(x))


def test_a_subclassed_model_needs_an_example_of_its_inputs():
    model, x = Subclassed(), np.zeros((5, 3), "float32")
    model(x)
    with pytest.raises(ValueError, match=r"shape of the inputs of .* is not known.*data=x\[:1\]"):
        tfsparse.prune(model, 0.5, "synflow")
    tfsparse.prune(model, 0.5, pruners.Synflow(rounds=3), data=x)
    assert sum(int(np.sum(ops.convert_to_numpy(v) == 0)) for v in model.trainable_variables[::2]) == 10
