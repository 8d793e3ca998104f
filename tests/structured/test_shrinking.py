"""Models that are really smaller."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from structured.small_models import assert_equal_outputs, gate, images, model, output, residual

import tfsparse
from tfsparse import Channels, mask_channels, shrink
from tfsparse.experiments.zoo import models

KEEP = {"stem": [0, 1, 3], "inner": [4, 1]}


def test_weights_statistics_and_biases_are_those_that_are_left():
    net = residual()
    small = shrink(net, KEEP)
    take = {"stem": (slice(None), [0, 1, 3]), "inner": ([0, 1, 3], [1, 4]), "outer": ([1, 4], [0, 1, 3])}
    for name, (ins, outs) in take.items():
        kernel = net.get_layer(name).kernel.numpy()[:, :, ins][..., outs]
        np.testing.assert_array_equal(small.get_layer(name).kernel.numpy(), kernel)
    for mine, theirs in zip(small.get_layer("inner_bn").weights, net.get_layer("inner_bn").weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy()[[1, 4]])
    np.testing.assert_array_equal(
        small.get_layer("head").kernel.numpy(), net.get_layer("head").kernel.numpy()[[0, 1, 3]]
    )


def test_the_model_stays_what_it_is():
    net = residual()
    small = shrink(net, KEEP)
    assert type(small) is type(net)
    assert small.name == net.name
    assert [layer.name for layer in small.layers] == [layer.name for layer in net.layers]
    assert [v.path for v in small.variables] == [v.path for v in net.variables]
    assert not small.compiled
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(2)], name="s")
    small = shrink(sequential, {"a": 3})
    assert isinstance(small, keras.Sequential)
    assert small.layers[0].units == 3


def test_masked_channels_can_be_dropped_without_a_change():
    net = residual()
    mask_channels(net, KEEP)
    for small in (shrink(net), shrink(net, KEEP)):
        assert (small.get_layer("stem").filters, small.get_layer("inner").filters) == (3, 2)
        assert_equal_outputs(small, net)


def test_masking_zeros_everything_that_speaks():
    net = residual()
    mask_channels(net, KEEP)
    for layer, names in (("stem", ("kernel", "bias")), ("outer", ("kernel", "bias"))):
        for name in names:
            assert not getattr(net.get_layer(layer), name).numpy()[..., 2].any()
    norm = net.get_layer("inner_bn")
    for variable in (norm.gamma, norm.beta):
        assert np.flatnonzero(variable.numpy()).tolist() == [1, 4]
    assert np.all(norm.moving_mean.numpy() != 0)


def test_masking_is_exact_without_gamma_too():
    def net(x):
        x = layers.BatchNormalization(scale=False, name="n")(layers.Conv2D(4, 3, padding="same", name="c")(x))
        return layers.Conv2D(2, 3, padding="same")(layers.ReLU()(x))

    net = model(net)
    net.get_layer("n").moving_mean.assign([-1.0] * 4)
    mask_channels(net, {"c": 2})
    small = shrink(net)
    assert small.get_layer("c").filters == 2
    assert_equal_outputs(small, net)


@pytest.mark.parametrize(
    "net",
    [
        lambda x: gate(layers.Conv2D(4, 3, padding="same", name="c")(x), "se"),
        lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.Conv2D(8, 3, groups=4, name="g")(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.Conv2D(8, 3, groups=2, name="g")(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.SeparableConv2D(4, 3, depth_multiplier=2)(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.Conv2DTranspose(4, 3, strides=2)(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.PReLU()(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.UpSampling2D(interpolation="bilinear")(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: ops.pad(layers.Conv2D(4, 1, name="c")(x), [[0, 0], [1, 0], [0, 0], [2, 1]]),
        lambda x: layers.Reshape((1, 1, 4))(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 1, name="c")(x))),
        lambda x: layers.Reshape((36, 4))(layers.Conv2D(4, 1, name="c")(x)),
        lambda x: layers.Concatenate()([layers.Conv2D(4, 1, name="c")(x), x]) * 2,
        lambda x: ops.clip(layers.Rescaling(2.0)(layers.Conv2D(4, 1, name="c")(x)), -1, 1),
    ],
    ids=["se", "depthwise", "all-groups", "groups", "separable", "transposed", "prelu", "bilinear", "pad", "reshape",
         "merge", "concatenate", "scale"],
)  # fmt: skip
def test_every_kind_of_layer(net):
    def whole(x):
        y = layers.BatchNormalization()(net(x))
        return layers.Dense(2)(layers.Flatten()(layers.ReLU()(y)))

    net = model(whole)
    graph = Channels(net)
    group = graph.group_of("c")
    mask_channels(net, {"c": np.arange(len(group)) % 2 == 0})
    small = shrink(net)
    assert small.get_layer("c").filters == 2
    assert_equal_outputs(small, net)


def test_nested_models_with_other_inputs():
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(5, 1, name="b")], name="inside")

    def net(x):
        return layers.Conv2D(2, 1)(layers.ReLU()(inner(layers.Conv2D(4, 1, name="a")(x))))

    net = model(net)
    mask_channels(net, {"a": [0, 2], "b": [1, 3, 4]})
    small = shrink(net)
    assert small.get_layer("inside").input_shape == (None, 6, 6, 2)
    assert small.get_layer("inside").layers[0].filters == 3
    assert_equal_outputs(small, net)


def test_several_inputs_and_outputs_keep_their_structure():
    a, b = keras.Input((4,), name="one"), keras.Input((5,), name="two")
    hidden = layers.Dense(6, name="h")(layers.Concatenate()([a, b]))
    net = keras.Model({"one": a, "two": b}, {"x": layers.Dense(1)(hidden), "y": layers.Dense(2)(hidden)})
    small = shrink(net, {"h": 3})
    outputs = small({"one": np.ones((2, 4)), "two": np.ones((2, 5))})
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"x": (2, 1), "y": (2, 2)}


def test_mixed_precision_and_frozen_layers_stay():
    net = residual()
    net.get_layer("stem").trainable = False
    small = shrink(net, KEEP)
    assert not small.get_layer("stem").trainable
    assert small.get_layer("outer").trainable


def test_saves_and_loads(tmp_path):
    small = shrink(residual(), KEEP)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    x = images(small)
    np.testing.assert_array_equal(output(loaded, x), output(small, x))


class Tempered(layers.Layer):
    """Has a weight, and no config from which it could be made anew."""

    def __init__(self, start):
        super().__init__()
        self.temperature = self.add_weight(shape=(), initializer=keras.initializers.Constant(start))

    def call(self, inputs):
        return inputs / self.temperature


def unusual(layer):
    inputs = keras.Input((8, 8, 3))
    x = layer(layers.Conv2D(6, 3, name="conv")(layers.Conv2D(8, 3, name="stem")(inputs)))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    "surgery",
    [
        lambda net: shrink(net, {"stem": 5}),
        lambda net: tfsparse.slim(net, flops=0.6),
        lambda net: tfsparse.finalize(tfsparse.dst(net)),
    ],
    ids=["shrink", "slim", "dst"],
)
@pytest.mark.filterwarnings("ignore:slim makes only a part of")
def test_a_layer_without_weights_needs_no_config(surgery):
    net = unusual(layers.Lambda(lambda x: x / 2))
    assert surgery(net)(images(net)).shape == (3, 4)


def test_a_layer_that_stays_as_it_is_and_cannot_be_copied_is_shared():
    net = unusual(Tempered(2.0))
    net.compile("adam", "mse")
    net.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 4)), verbose=0)
    with pytest.warns(UserWarning, match="shares an object and its state with the given one. Tempered"):
        small = shrink(net, {"stem": 5})
    assert small.layers[3] is net.layers[3] and small.get_layer("stem").filters == 5
    assert int(small.optimizer.iterations) == 1
    small.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 4)), verbose=0)


def test_arrays_of_another_model_are_refused():
    net = residual()
    with pytest.raises(ValueError, match=r"keep is an array of shape \(3,\) and type bool; expected the .* booleans"):
        shrink(net, np.ones(3, bool))
    kept = Channels(net).keep_all()
    kept[Channels(net).group_of("inner").channels] = False
    with pytest.raises(ValueError, match="keep leaves no channel of 'inner'"):
        shrink(net, kept)


def test_a_model_pruned_by_channels_in_training():
    net = models.build("lenet_300_100", (28, 28, 1), 10)
    tfsparse.prune(net, 0.5, pruner=tfsparse.Magnitude("channel", "layer"), exclude=[net.get_layer("logits")])
    small = shrink(net)
    assert (small.get_layer("dense1").units, small.get_layer("dense2").units) == (150, 50)
    assert_equal_outputs(small, net)
