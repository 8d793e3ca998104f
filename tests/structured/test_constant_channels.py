"""Which channels are without effect, and what they leave behind."""

import keras
import numpy as np
import pytest
from keras import layers
from structured.small_models import assert_equal_outputs, gate, model, residual

from tfsparse import Channels, shrink
from tfsparse.structured import constant_channels


def zero(net, layer, channels, *names):
    """Zero some output channels of a layer's variables of these names."""
    for variable in net.get_layer(layer).weights:
        if variable.name in names:
            value = variable.numpy()
            value[..., channels] = 0
            variable.assign(value)


def left(net, layer, **options):
    graph = Channels(net)
    kept = constant_channels.needed(graph, **options)
    return np.flatnonzero(kept[graph.group_of(layer).channels]).tolist()


def filters_then_norm(padding, reader_bias=True):
    def net(x):
        x = layers.Conv2D(6, 3, name="c")(x)
        x = layers.ReLU()(layers.BatchNormalization(name="n")(x))
        return layers.Conv2D(4, 3, padding=padding, use_bias=reader_bias, name="reader")(x)

    return model(net)


@pytest.mark.parametrize("bias", [True, False])
def test_a_zero_filter_before_normalization_is_folded_where_that_is_exact(bias):
    net = filters_then_norm("valid", bias)
    zero(net, "c", [1, 4], "kernel")
    small = shrink(net)
    assert small.get_layer("c").filters == 4
    assert small.get_layer("reader").use_bias
    assert_equal_outputs(small, net)


def test_and_kept_where_zero_padding_would_show_it():
    net = filters_then_norm("same")
    zero(net, "c", [1, 4], "kernel")
    gamma, beta, mean, variance = (w.numpy() for w in net.get_layer("n").weights)
    emitted = np.maximum(beta + gamma * (net.get_layer("c").bias.numpy() - mean) / np.sqrt(variance + 1e-3), 0)
    expected = [i for i in range(6) if i not in (1, 4) or emitted[i] > 0]
    assert 4 in expected  # else this test would be the next one
    assert left(net, "c") == expected
    assert_equal_outputs(shrink(net), net)


def test_but_not_if_gamma_and_beta_are_zero_too():
    net = filters_then_norm("same")
    zero(net, "c", [1, 4], "kernel", "bias")
    zero(net, "n", [1, 4], "gamma", "beta")
    assert left(net, "c") == [0, 2, 3, 5]
    assert_equal_outputs(shrink(net), net)


def test_what_nobody_reads_goes_and_takes_its_makers_along():
    def net(x):
        x = layers.Conv2D(3, 1, activation="relu", name="first")(x)
        x = layers.Conv2D(4, 1, activation="relu", name="second")(x)
        return layers.Conv2D(2, 1, name="third")(x)

    net = model(net)
    third = net.get_layer("third")
    value = third.kernel.numpy()
    value[:, :, 2] = 0  # nobody reads channel 2 of the second
    third.kernel.assign(value)
    second = net.get_layer("second")
    value = second.kernel.numpy()
    value[:, :, 0, [0, 1, 3]] = 0  # which alone reads channel 0 of the first
    second.kernel.assign(value)
    assert left(net, "second") == [0, 1, 3]
    assert left(net, "first") == [1, 2]
    assert_equal_outputs(shrink(net), net)


def test_a_group_goes_only_where_all_of_it_is_constant():
    net = residual()
    zero(net, "stem", [0, 2], "kernel", "bias")
    assert left(net, "stem") == [0, 1, 2, 3]
    zero(net, "outer", [2, 3], "kernel", "bias")
    assert left(net, "stem") == [0, 1, 3]
    assert_equal_outputs(shrink(net), net)


def test_zero_times_a_gate_is_zero():
    def net(x):
        x = gate(layers.Conv2D(4, 1, name="c")(x), "se")
        return layers.Conv2D(2, 3, padding="same")(x)

    net = model(net)
    zero(net, "c", [3], "kernel", "bias")
    assert left(net, "c") == [0, 1, 2]
    assert_equal_outputs(shrink(net), net)


def test_constants_through_depthwise_pooling_and_flatten():
    def net(x):
        x = layers.Conv2D(4, 1, activation="sigmoid", name="c")(x)
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="tanh")(x)
        x = layers.AveragePooling2D(2, padding="same")(x)
        return layers.Dense(3, use_bias=False)(layers.Flatten()(x))

    net = model(net)
    zero(net, "c", [0, 1], "kernel")
    assert left(net, "c") == [2, 3]
    assert_equal_outputs(shrink(net), net)


def test_a_shared_reader_that_gets_two_constants_keeps_the_channel():
    def net(x):
        shared = layers.Conv2D(2, 1, use_bias=False, name="shared")
        a, b = layers.Conv2D(3, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
        return shared(a) + 2 * shared(b)

    net = model(net)
    for name in "ab":
        zero(net, name, [1], "kernel")
    assert left(net, "a") == [0, 1, 2]
    net.get_layer("b").bias.assign(net.get_layer("a").bias)
    assert left(net, "a") == [0, 2]
    assert_equal_outputs(shrink(net), net)


def test_no_layer_is_emptied_and_numbers_can_be_rounded_up():
    net = filters_then_norm("valid")
    zero(net, "c", slice(None), "kernel")
    assert len(left(net, "c")) == 1
    assert_equal_outputs(shrink(net), net)
    assert len(left(net, "c", multiple=4)) == 4
    assert_equal_outputs(shrink(net, multiple=4), net)


def test_frozen_channels_stay():
    net = model(lambda x: layers.LayerNormalization()(layers.Conv2D(4, 1, name="c")(x)))
    zero(net, "c", [0], "kernel", "bias")
    assert left(net, "c") == [0, 1, 2, 3]


def test_what_is_added_is_the_sum_of_constants_and_weights():
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, name="hidden")(inputs)
    net = keras.Model(inputs, layers.Dense(1, name="reader")(hidden))
    net.get_layer("hidden").set_weights([np.array([[1.0, 0, 1], [1, 0, 1]]), np.array([0.0, 5, 0])])
    net.get_layer("reader").set_weights([np.array([[1.0], [2], [3]]), np.array([0.5])])
    graph = Channels(net)
    added = constant_channels.folded(graph, constant_channels.needed(graph))
    assert added[id(net.get_layer("reader"))].tolist() == [10.0]
    assert shrink(net).get_layer("reader").bias.numpy().tolist() == [10.5]
