import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import testing
from tfsparse.optimizers.calibration import Calibration


def compiled_model():
    model = testing.small_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def prune(model, data):
    tfsparse.prune(model, 0.5, tfsparse.pruners.SNIP(rounds=1), data=data)


def test_inputs_of_another_shape_are_refused_in_one_sentence():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match=r"inputs of shape \(64, 36\), and model .* expects \(None, 6, 6, 1\): pass"):
        prune(compiled_model(), (x.reshape(64, 36), y))


def test_a_loss_needs_labels_and_a_compiled_model():
    x, y = testing.small_data()
    for data in (x, None):
        with pytest.raises(ValueError, match=r"data has no labels, and the loss needs them: expected data=\(x, y\)"):
            prune(compiled_model(), data)
    with pytest.raises(ValueError, match="is not compiled, so its loss is not known"):
        prune(testing.small_model(), (x, y))


def test_other_data_than_one_batch_is_refused():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match=r"data with \[64, 32\] rows"):
        prune(compiled_model(), (x, y[:32]))
    with pytest.raises(TypeError, match="expected one batch"):
        prune(compiled_model(), (batch for batch in [(x, y)]))


def test_infinite_gradients_are_named():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match="found NaN or infinity for .*kernel.*check the data"):
        prune(compiled_model(), (np.full_like(x, np.nan), y))


def test_dropout_is_off_and_statistics_stay():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    kernels = [model.layers[0].kernel, model.layers[3].kernel]
    weights = [ops.convert_to_tensor(kernel.value) for kernel in kernels]
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    calibration = Calibration(model, kernels, (x, x[:, :2]))
    first, second = (float(calibration.loss(weights)) for _ in range(2))
    hidden = x @ ops.convert_to_numpy(weights[0])
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3)  # statistics of the batch
    expected = np.mean((hidden @ ops.convert_to_numpy(weights[1]) - x[:, :2]) ** 2)
    assert first == second == pytest.approx(expected, rel=1e-4)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_a_model_with_several_inputs_is_scored():
    first, second = keras.Input((3,), name="first"), keras.Input((2,), name="second")
    outputs = layers.Dense(2)(layers.Concatenate()([layers.Dense(4)(first), second]))
    model = keras.Model({"first": first, "second": second}, outputs)
    model.compile("sgd", "mse")
    random = np.random.default_rng(0)
    x = {"first": random.normal(size=(8, 3)), "second": random.normal(size=(8, 2))}
    prune(model, (x, random.normal(size=(8, 2))))
    tfsparse.prune(model, 0.75, tfsparse.pruners.Synflow(rounds=3))
    assert sum(int(np.sum(ops.convert_to_numpy(v) == 0)) for v in model.trainable_variables[::2]) == 18
