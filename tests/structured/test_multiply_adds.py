"""Multiply-adds of every kind of layer, beside the numbers that one counts by hand."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import tfsparse
from tfsparse.structured import Channels, multiply_adds

IMAGE, SEQUENCE = (8, 8, 16), (10, 6)


def model_of(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs))


def kernels(model):
    return [v for v in model.weights if v.name.endswith("kernel")]


def count(model):
    """Multiply-adds by `Channels`, after a look that the report and the table of uses say the same."""
    uses = multiply_adds.uses_per_entry(model)
    counted = Channels(model).macs()
    assert counted == sum(uses[id(v)] * math.prod(v.shape) for v in kernels(model))
    assert tfsparse.report(model).flops == 2 * counted
    return counted


# (layer, shape of its input, multiply-adds by hand: (size of the kernel) * (uses of each entry) per kernel)
BY_HAND = {
    "dense": (layers.Dense(4), (6,), (6 * 4) * 1),
    "dense on a sequence": (layers.Dense(4), SEQUENCE, (6 * 4) * 10),
    "conv1d": (layers.Conv1D(4, 3), SEQUENCE, (3 * 6 * 4) * 8),  # valid: 10 - 3 + 1 = 8 positions
    "conv2d": (layers.Conv2D(4, 3), IMAGE, (3 * 3 * 16 * 4) * (6 * 6)),
    "conv2d same": (layers.Conv2D(4, 3, padding="same"), IMAGE, (3 * 3 * 16 * 4) * (8 * 8)),
    "conv2d strided": (layers.Conv2D(4, 3, strides=2), IMAGE, (3 * 3 * 16 * 4) * (3 * 3)),  # positions 0, 2, 4
    "conv2d strided same": (layers.Conv2D(4, 3, strides=2, padding="same"), IMAGE, (3 * 3 * 16 * 4) * (4 * 4)),
    "conv2d dilated": (layers.Conv2D(4, 3, dilation_rate=2), IMAGE, (3 * 3 * 16 * 4) * (4 * 4)),  # it spans 5
    "conv2d grouped": (layers.Conv2D(8, 3, groups=4), IMAGE, (3 * 3 * 4 * 8) * (6 * 6)),  # 16 / 4 inputs each
    "conv2d one channel per group": (layers.Conv2D(16, 3, groups=16), IMAGE, (3 * 3 * 1 * 16) * (6 * 6)),
    "conv3d": (layers.Conv3D(2, 2), (4, 4, 4, 3), (2 * 2 * 2 * 3 * 2) * (3 * 3 * 3)),
    "depthwise 1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), SEQUENCE, (3 * 6 * 2) * 8),
    "depthwise 2d": (layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGE, (3 * 3 * 16 * 2) * (6 * 6)),
    "depthwise 2d strided": (layers.DepthwiseConv2D(3, strides=2), IMAGE, (3 * 3 * 16) * (3 * 3)),
    "separable 1d": (layers.SeparableConv1D(4, 3), SEQUENCE, (3 * 6) * 8 + (6 * 4) * 8),
    "separable 2d": (  # both kernels at 6 x 6 positions; the second one reads 16 * 2 channels
        layers.SeparableConv2D(4, 3, depth_multiplier=2),
        IMAGE,
        (3 * 3 * 16 * 2) * (6 * 6) + (32 * 4) * (6 * 6),
    ),
    # every entry of a transposed kernel meets every input position once
    "conv1d transposed": (layers.Conv1DTranspose(4, 3, strides=2), SEQUENCE, (3 * 4 * 6) * 10),
    "conv2d transposed": (layers.Conv2DTranspose(8, 2, strides=2), IMAGE, (2 * 2 * 8 * 16) * (8 * 8)),
    "conv3d transposed": (layers.Conv3DTranspose(2, 2, strides=2), (4, 4, 4, 3), (2 * 2 * 2 * 2 * 3) * (4 * 4 * 4)),
    # each entry of the kernel is used once for every index of the input that the kernel does not have
    "einsum abc,cd->abd": (layers.EinsumDense("abc,cd->abd", (10, 4)), SEQUENCE, (6 * 4) * 10),
    "einsum abc,cde->abde": (layers.EinsumDense("abc,cde->abde", (10, 2, 3)), SEQUENCE, (6 * 2 * 3) * 10),
    "einsum abc,bd->adc": (layers.EinsumDense("abc,bd->adc", (4, 6)), SEQUENCE, (10 * 4) * 6),
    "einsum ab,bc->ac": (layers.EinsumDense("ab,bc->ac", 4), (6,), (6 * 4) * 1),
    "einsum ...x,xy->...y": (layers.EinsumDense("...x,xy->...y", 4), (10, 5, 6), (6 * 4) * (10 * 5)),
    "einsum ab...,bc->ac...": (layers.EinsumDense("ab...,bc->ac...", (4, 6)), SEQUENCE, (10 * 4) * 6),
    # (inputs * units + units * units) * gates, at each of 10 time steps
    "simple rnn": (layers.SimpleRNN(3), SEQUENCE, (6 * 3 + 3 * 3) * 10),
    "lstm": (layers.LSTM(3), SEQUENCE, (6 * 3 + 3 * 3) * 4 * 10),
    "lstm with all its outputs": (layers.LSTM(3, return_sequences=True), SEQUENCE, (6 * 3 + 3 * 3) * 4 * 10),
    "gru": (layers.GRU(3), SEQUENCE, (6 * 3 + 3 * 3) * 3 * 10),
    "rnn of cells": (  # the second cell reads the 3 outputs of the first one
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        SEQUENCE,
        (6 * 3 + 3 * 3) * 4 * 10 + (3 * 2 + 2 * 2) * 3 * 10,
    ),
    "bidirectional": (layers.Bidirectional(layers.LSTM(3)), SEQUENCE, 2 * (6 * 3 + 3 * 3) * 4 * 10),
    "conv lstm": (  # 5 time steps; the state has 6 x 6 positions, and the recurrent kernel works on them
        layers.ConvLSTM2D(2, 3),
        (5, 8, 8, 3),
        (3 * 3 * 3 * 2 + 3 * 3 * 2 * 2) * 4 * 5 * (6 * 6),
    ),
    "conv lstm with all its outputs": (
        layers.ConvLSTM1D(2, 3, return_sequences=True),
        (5, 8, 3),
        (3 * 3 * 2 + 3 * 2 * 2) * 4 * 5 * 6,
    ),
    "time distributed": (layers.TimeDistributed(layers.Conv2D(4, 3)), (5, 8, 8, 3), 5 * (3 * 3 * 3 * 4) * (6 * 6)),
    "spectral normalization": (layers.SpectralNormalization(layers.Conv2D(4, 3)), IMAGE, (3 * 3 * 16 * 4) * (6 * 6)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_multiply_adds_are_those_counted_by_hand(name):
    layer, shape, expected = BY_HAND[name]
    assert count(model_of(layer, shape)) == expected


def test_a_transposed_convolution_of_the_tracker():
    """8 filters of 2 x 2 with stride 2 on (8, 8, 16): 512 entries at 64 positions, and two FLOPs for each."""
    model = model_of(layers.Conv2DTranspose(8, 2, strides=2), (8, 8, 16))
    assert tfsparse.report(model).flops == 2 * 512 * 64 == 65_536


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Conv2D(4, 3, strides=2, data_format="channels_first"), (16, 8, 8), (3 * 3 * 16 * 4) * (3 * 3)),
        (layers.Conv2DTranspose(8, 2, strides=2, data_format="channels_first"), (16, 8, 8), 512 * (8 * 8)),
        (layers.DepthwiseConv2D(3, data_format="channels_first"), (16, 8, 8), (3 * 3 * 16) * (6 * 6)),
    ],
)
def test_channels_first(layer, shape, expected):
    assert count(model_of(layer, shape)) == expected


@pytest.mark.parametrize(
    ("layer", "heads_of_keys"),
    [(layers.MultiHeadAttention(2, 4), 2), (layers.GroupQueryAttention(4, 2, 1), 1)],
    ids=["multi-head", "grouped-query"],
)
def test_attention_projects_queries_keys_values_and_outputs(layer, heads_of_keys):
    """10 queries, 7 keys and values, all of 6 numbers; two query heads of 4 numbers."""
    query = 10 * (6 * 2 * 4)
    key = value = 7 * (6 * heads_of_keys * 4)
    output = 10 * (2 * 4 * 6)
    assert count(model_of(layer, (10, 6), (7, 6))) == query + key + value + output


def test_attention_with_keys_of_their_own_and_a_mask():
    """The mask has the rank of the keys and is not taken for them; keys are 3 numbers wide, values 5."""
    attention = layers.MultiHeadAttention(2, 4, value_dim=3)
    query, value, key, mask = (keras.Input(s) for s in ((10, 6), (7, 5), (7, 3), (10, 7)))
    model = keras.Model([query, value, key, mask], attention(query, value, key=key, attention_mask=mask))
    assert count(model) == 10 * (6 * 8) + 7 * (3 * 8) + 7 * (5 * 6) + 10 * (6 * 6)


def test_the_input_of_a_layer_is_found_among_other_arguments():
    inputs, mask = keras.Input((10, 6)), keras.Input((10,), dtype="bool")
    assert count(keras.Model(inputs, layers.Dense(4)(inputs, training=True))) == (6 * 4) * 10
    model = keras.Model([inputs, mask], layers.SimpleRNN(3)(mask=mask, sequences=inputs))
    assert count(model) == (6 * 3 + 3 * 3) * 10


def test_a_layer_that_is_called_twice_counts_twice():
    inputs, shared = keras.Input((6,)), layers.Dense(6)
    assert count(keras.Model(inputs, shared(shared(inputs)))) == 2 * 36


def test_models_inside_models_count_with_every_call():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
    inputs = keras.Input((6,))
    assert count(keras.Model(inputs, inner(inner(inputs)))) == 2 * 36
    assert count(model_of(layers.TimeDistributed(inner), (5, 6))) == 5 * 36


def test_a_model_loaded_layer_by_layer_counts_once(tmp_path):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    assert count(model) == count(keras.saving.load_model(tmp_path / "model.keras")) == 36 + 12


def test_calls_in_other_models_do_not_count():
    dense = layers.Dense(6)
    model = keras.Sequential([keras.Input((6,)), dense])
    keras.Sequential([keras.Input((6,)), dense, dense])
    assert count(model) == 36


def test_trainable_thresholds_change_nothing():
    model = model_of(layers.Conv2D(4, 3), IMAGE)
    thresholded = tfsparse.dst(model)
    assert [row.flops for row in tfsparse.report(thresholded).rows] == [2 * (3 * 3 * 16 * 4) * (6 * 6)]


def test_entries_that_are_zero_or_dropped_are_not_counted():
    model = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3, name="conv"), layers.Conv2D(2, 1)])
    kernel = model.get_layer("conv").kernel
    kernel.assign(np.where(np.arange(4) < 3, np.ones(kernel.shape), 0))
    row = tfsparse.report(model).rows[0]
    assert (row.flops, row.effective_flops) == (2 * 144 * 4 * 36, 2 * 144 * 3 * 36)
    channels = Channels(model)
    assert channels.macs(channels.keep({"conv": 3})) == 144 * 3 * 36 + (3 * 2) * 36


class Block(layers.Layer):
    """A layer without a rule that calls two others."""

    def __init__(self):
        super().__init__()
        self.inner = [layers.Dense(8), layers.Dense(6)]

    def build(self, shape):
        for layer, width in zip(self.inner, (6, 8), strict=True):
            layer.build((*shape[:-1], width))

    def call(self, inputs):
        return self.inner[1](self.inner[0](inputs))


class Projection(layers.Layer):
    """A layer without a rule that has a kernel."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, inputs):
        return inputs @ self.kernel


@pytest.mark.parametrize(("kind", "expected"), [(Projection, (6 * 4) * 10), (Block, (6 * 8 + 8 * 6) * 10)])
def test_a_layer_without_a_rule_is_unknown_until_it_is_registered(kind, expected, monkeypatch):
    model = model_of(kind(), SEQUENCE)
    assert tfsparse.report(model).flops is None
    with pytest.raises(ValueError, match=rf"multiply_adds.register\({kind.__name__}, function\)"):
        Channels(model).macs()
    monkeypatch.setattr(multiply_adds, "USES", dict(multiply_adds.USES))
    multiply_adds.register(kind, lambda layer, inputs, outputs: multiply_adds.product(outputs[1:-1]))
    assert count(model) == expected


def test_subclassed_models_and_open_sizes_are_unknown():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(4)

        def call(self, inputs):
            return self.inner(inputs)

    model = Own()
    model(np.zeros((1, 6), "float32"))
    assert list(multiply_adds.uses_per_entry(model).values()) == [None]
    assert list(multiply_adds.uses_per_entry(model_of(layers.LSTM(3), (None, 6))).values()) == [None, None]


def test_a_cell_of_ones_own_is_unknown_until_it_is_registered(monkeypatch):
    class Cell(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    class Other(layers.Layer):
        state_size = output_size = 4

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

        def call(self, inputs, states):
            return inputs @ self.kernel, states

    assert count(model_of(layers.RNN(Cell(3)), SEQUENCE)) == (6 * 3 + 3 * 3) * 4 * 10
    model = model_of(layers.RNN(Other()), SEQUENCE)
    with pytest.raises(ValueError, match=r"register\(Other, function\)"):
        Channels(model).macs()
    monkeypatch.setattr(multiply_adds, "USES", dict(multiply_adds.USES))
    multiply_adds.register(Other, lambda layer, inputs, outputs: 1)
    assert count(model) == (6 * 4) * 10
