"""Weights of models and of files: their operations and axes; the predicted form is the form in the file."""

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse.doctor import patterns, tflite_cpu, weights
from tfsparse.doctor.weights import Operation

layers = keras.layers


def all_kinds():
    """One of each that TFLite's converter keeps apart, large enough to be stored sparse."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 16))
    x = layers.Conv2D(24, 3, name="conv")(inputs)
    x = layers.Conv2D(40, 1, name="point", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=8, name="depth", activation="relu")(x)
    x = layers.Conv2DTranspose(12, 3, name="up")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, name="hidden", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(30, name="head")(x))


def by_layer(found):
    return {w.name.split("/")[-2].partition("_")[0]: w for w in found}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The model pruned, each kind by its own granularity, and its file."""
    model = all_kinds()
    pruner = tfsparse.Magnitude({"dense": (1, 4), "conv": "weight"}, "layer")
    tfsparse.prune(model, 0.8, pruner, sparsities={model.get_layer("head"): 0.5, model.get_layer("conv"): 0.05})
    path = tmp_path_factory.mktemp("file") / "out.tflite"
    tfsparse.export_tflite(model, path)
    of_model = by_layer(weight for _, weight in weights.of_model(model))
    return of_model, by_layer(weights.of_file(path.read_bytes()))


OPERATIONS = {
    "conv": Operation.CONVOLUTION,
    "point": Operation.POINTWISE,
    "depth": Operation.DEPTHWISE,
    "up": Operation.TRANSPOSED,
    "hidden": Operation.DENSE,
    "head": Operation.DENSE,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_model_and_file_hold_the_same(both, name):
    of_model, of_file = (found[name] for found in both)
    assert of_model.operation is of_file.operation is OPERATIONS[name]
    assert of_model.array.shape == of_file.array.shape
    np.testing.assert_allclose(of_model.array, of_file.array, rtol=1e-6)
    assert of_model.tflite_array().shape == of_file.shape
    assert patterns.detect(of_model.array) == patterns.detect(of_file.array)


def test_every_weight_knows_the_bytes_of_the_network(both):
    sizes = (9 * 16 * 24, 24 * 40, 9 * 40 * 8, 9 * 320 * 12, 6 * 6 * 12 * 32, 32 * 30)
    assert {w.network_bytes for found in both for w in found.values()} == {4 * sum(sizes)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_predicted_form_is_the_form_in_the_file(both, name):
    of_model, of_file = (found[name] for found in both)
    assert tflite_cpu.sparse_in_file(of_model) == tflite_cpu.sparse_in_file(of_file)


def test_the_predicted_forms_differ(both):
    assert {tflite_cpu.sparse_in_file(w) for w in both[0].values()} == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize(
    "layer, expected",
    [
        (layers.Conv2D(4, 1, strides=2), Operation.CONVOLUTION),
        (layers.Conv2D(4, 1, groups=2), Operation.CONVOLUTION),
        (layers.Conv2D(4, 1), Operation.POINTWISE),
        (layers.Conv3D(4, 1), Operation.OTHER),
        (layers.EinsumDense("abcde,ef->abcdf", (None, None, None, 4)), Operation.OTHER),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_the_operation_of_a_layer(layer, expected):
    shape = (4, 4, 4, 6) if isinstance(layer, (layers.Conv3D, layers.EinsumDense)) else (4, 4, 6)
    model = keras.Sequential([keras.Input(shape), layer])
    assert [weight.operation for _, weight in weights.of_model(model)] == [expected]


def test_a_separable_convolution_has_a_depthwise_and_a_pointwise_weight():
    model = keras.Sequential([keras.Input((4, 4, 6)), layers.SeparableConv2D(5, 3)])
    found = [weight for _, weight in weights.of_model(model)]
    expected = [(Operation.DEPTHWISE, (3, 3, 6, 1)), (Operation.POINTWISE, (1, 1, 6, 5))]
    assert [(w.operation, w.shape) for w in found] == expected
    assert found[0].array.shape == (1, 3, 3, 6)


def test_thresholds_are_not_weights_and_their_zeros_count():
    model = tfsparse.dst(keras.Sequential([keras.Input((8,)), layers.Dense(4)]), alpha=1e-3)
    (thresholded,) = [layer for layer in model.layers if isinstance(layer, tfsparse.Thresholded)]
    thresholded.kernels[0].assign(np.full((8, 4), 0.5))
    thresholded.own_variables[0].assign(np.full(thresholded.own_variables[0].shape, 1.0))
    ((_, weight),) = weights.of_model(model)
    assert weight.shape == (8, 4) and weight.operation is Operation.DENSE and not weight.array.all()
