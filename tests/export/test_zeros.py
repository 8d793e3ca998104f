"""Zeros stay zero in int8, in whatever file, with a scale for each output channel."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.lite.tools import flatbuffer_utils

import tfsparse
from tfsparse.export import tflite_file

layers = keras.layers
OUTPUTS_FIRST = {"conv": (3, 0, 1, 2), "depthwise": (3, 0, 1, 2), "transposed": (2, 0, 1, 3), "dense": (1, 0)}
CHANNELS = {"conv": 3, "depthwise": 2, "transposed": 2, "dense": 1}  # the axis of a Keras kernel with a scale each


@pytest.fixture(scope="module")
def model():
    """Every kernel is large enough to be packed, and the channels' weights are of different sizes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 16))
    x = layers.Conv2D(128, 3, name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(24, 3, name="transposed")(x)
    model = keras.Model(inputs, layers.Dense(64, name="dense")(layers.Flatten()(x)))
    tfsparse.prune(model, 0.9)
    for name, axis in CHANNELS.items():
        kernel = model.get_layer(name).kernel
        shape = [-1 if i == axis else 1 for i in range(len(kernel.shape))]
        kernel.assign(kernel * np.linspace(0.1, 3, kernel.shape[axis]).reshape(shape))
    return model


def kernel(model, name):
    return ops.convert_to_numpy(model.get_layer(name).kernel)


def _check(integers, scale, expected):
    """Both sides independently: zero where the kernel is, and else the nearest multiple of the channel's scale."""
    assert integers.dtype == np.int8 and not np.any(integers[expected == 0])
    assert 0 < np.mean(integers != 0) <= np.mean(expected != 0)
    assert np.array_equal(integers, np.rint(expected / scale).clip(-127, 127))


def test_int8_of_tflite_keeps_zeros(model, tmp_path):
    x = np.random.default_rng(1).normal(size=(4, 6, 6, 16)).astype("float32")
    tfsparse.export_tflite(model, tmp_path / "out.tflite", "int8", representative=x)
    file = flatbuffer_utils.read_model_from_bytearray(bytearray((tmp_path / "out.tflite").read_bytes()))
    graph = file.subgraphs[0]
    weights = {tuple(graph.tensors[i].shape): graph.tensors[i] for i, _ in tflite_file._weights(file, graph)}
    for name, order in OUTPUTS_FIRST.items():
        expected = kernel(model, name).transpose(order)
        tensor = weights[expected.shape]
        scales, axis = tensor.quantization.scale, tensor.quantization.quantizedDimension
        assert len(scales) == kernel(model, name).shape[CHANNELS[name]] > 1
        assert not np.any(tensor.quantization.zeroPoint)
        shape = [-1 if i == axis else 1 for i in range(expected.ndim)]
        _check(tflite_file._array(file, tensor), np.reshape(scales, shape), expected)


def test_int8_of_a_saved_model_keeps_zeros(model, tmp_path):
    served = tf.saved_model.load(str(tfsparse.export(model, tmp_path / "out", values="int8")))
    weights = {tuple(v.shape): v.numpy() for v in served.packed}
    for name, axis in (CHANNELS | {"transposed": 3}).items():  # `packing` goes by the last axis: here its inputs
        expected = kernel(model, name)
        others = tuple(i for i in range(expected.ndim) if i != axis)
        largest = np.max(np.abs(expected), axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1)  # a channel in which nothing lives has none
        _check(np.rint(weights[expected.shape] / scale).astype("int8"), scale, expected)
        assert not np.any(weights[expected.shape][expected == 0])
