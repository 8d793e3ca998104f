"""Groups of channels that live and die together."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from structured.small_models import gate, model, residual

from tfsparse import Channels
from tfsparse.experiments.zoo import models
from tfsparse.structured import importance


def groups(net):
    return {g.name: g for g in Channels(net).groups}


def makers(group):
    return list(dict.fromkeys(s.layer.name for s in group.outputs))


def readers(group):
    return list(dict.fromkeys(s.layer.name for s in group.inputs))


def test_an_addition_ties_what_it_adds():
    named = groups(residual())
    assert list(named) == ["stem", "inner", "head"]
    assert makers(named["stem"]) == ["stem", "outer"]
    assert readers(named["stem"]) == ["inner", "head"]
    assert makers(named["inner"]) == ["inner"]
    assert [s.variable.name for s in named["inner"].per_channel] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert {name: len(g) for name, g in named.items()} == {"stem": 4, "inner": 5, "head": 2}
    assert named["stem"].frozen is None
    assert named["head"].frozen == "it is an output of the model"


def test_the_first_group_of_resnet_18_has_the_members_of_the_specification():
    group = Channels(models.build("resnet_18", (32, 32, 3), 10)).groups[0]
    assert makers(group) == ["stem", "stage1_block1_conv2", "stage1_block2_conv2"]
    assert list(dict.fromkeys(s.layer.name for s in group.per_channel)) == [
        "stem_bn",
        "stage1_block1_conv2_bn",
        "stage1_block2_conv2_bn",
    ]
    assert readers(group) == [
        "stage1_block1_conv1",
        "stage1_block2_conv1",
        "stage2_block1_conv1",
        "stage2_block1_shortcut",
    ]
    assert len(group) == 64


def test_concatenation_strings_channels_together():
    def net(x):
        a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
        return layers.Conv2D(1, 1, name="reader")(layers.Concatenate()([a, b, a]))

    graph = Channels(model(net))
    a, b = graph.group_of("a").channels, graph.group_of("b").channels
    kernel = graph.model.get_layer("reader").kernel
    assert graph.ids(kernel)[2].tolist() == [*a, *b, *a]


def test_a_concatenation_that_is_added_to_one_layer_makes_one_group():
    def net(x):
        a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
        wide = layers.Conv2D(5, 1, name="wide")(x)
        return layers.Conv2D(1, 1)(layers.Concatenate()([a, b]) + wide)

    group = groups(model(net))["a"]
    assert makers(group) == ["a", "b", "wide"]
    assert len(group) == 5


def test_other_axes_of_a_concatenation_tie():
    def net(x):
        rows = [layers.Conv2D(2, 1, name=name)(x) for name in "ab"]
        return layers.Conv2D(1, 1)(layers.Concatenate(axis=1)(rows))

    assert makers(groups(model(net))["a"]) == ["a", "b"]


def test_flatten_repeats_channels_for_every_place():
    graph = Channels(model(lambda x: layers.Dense(1, name="d")(layers.Flatten()(layers.Conv2D(2, 5, name="c")(x)))))
    a, b = graph.group_of("c").channels
    assert graph.ids(graph.model.get_layer("d").kernel)[0].tolist() == [a, b] * 4


def test_flatten_of_channels_first_keeps_each_together():
    def net(x):
        x = layers.Conv2D(2, 5, name="c", data_format="channels_first")(x)
        return layers.Dense(1, name="d")(layers.Flatten()(x))

    graph = Channels(keras.Model(x := keras.Input((3, 6, 6)), net(x)))
    a, b = graph.group_of("c").channels
    assert graph.ids(graph.model.get_layer("d").kernel)[0].tolist() == [a] * 4 + [b] * 4


def test_depthwise_kernels_go_with_their_channels():
    def net(x):
        x = layers.Conv2D(2, 1, name="c")(x)
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="d")(x)
        return layers.Conv2D(1, 1, name="reader")(x)

    graph = Channels(model(net))
    a, b = graph.group_of("c").channels
    assert graph.ids(graph.model.get_layer("d").kernel) == {2: pytest.approx([a, b])}
    assert graph.ids(graph.model.get_layer("d").bias)[0].tolist() == [a, a, b, b]
    assert graph.ids(graph.model.get_layer("reader").kernel)[2].tolist() == [a, a, b, b]


def test_groups_of_a_convolution_lose_the_same():
    def net(x):
        x = layers.Conv2D(6, 1, name="c")(x)
        return layers.Conv2D(1, 1)(layers.Conv2D(4, 1, groups=2, name="grouped")(x))

    graph = Channels(model(net))
    assert len(graph.group_of("c")) == 3
    assert len(graph.group_of("grouped")) == 2


def test_a_gate_belongs_to_what_it_gates():
    named = groups(model(lambda x: layers.Conv2D(1, 1)(gate(layers.Conv2D(4, 1, name="c")(x), "se"))))
    assert makers(named["c"]) == ["c", "se_excite"]
    assert makers(named["se_squeeze"]) == ["se_squeeze"]


def test_one_channel_spread_over_all_is_not_coupled():
    def net(x):
        wide = layers.Conv2D(4, 1, name="wide")(x)
        return layers.Conv2D(1, 1, name="last")(wide * layers.Conv2D(1, 1, name="map")(x))

    named = groups(model(net))
    assert makers(named["wide"]) == ["wide"]
    assert named["wide"].frozen is None
    assert "spreads one channel over all" in named["map"].frozen


def test_a_shared_layer_ties_what_it_is_called_on():
    def net(x):
        shared = layers.Conv2D(2, 1, name="shared")
        a, b = layers.Conv2D(3, 1, name="a")(x), layers.Conv2D(3, 1, name="b")(x)
        return layers.Conv2D(1, 1)(layers.Concatenate()([shared(a), shared(b)]))

    graph = Channels(model(net))
    assert set(makers(graph.group_of("a"))) == {"a", "b"}
    assert len(graph.group_of("shared")) == 2


def test_models_inside_of_models():
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 1, name="inner")], name="inside")

    def net(x):
        return layers.Conv2D(1, 1, name="last")(layers.ReLU()(inner(layers.Conv2D(3, 1, name="first")(x))))

    named = groups(model(net))
    assert readers(named["first"]) == ["inner"]
    assert readers(named["inner"]) == ["last"]
    assert named["inner"].frozen is None


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda x: layers.LayerNormalization(name="n")(x), "LayerNormalization 'n' is not understood and reads them"),
        (lambda x: layers.Softmax(name="s")(x), "Softmax 's' is not understood and reads them"),
        (lambda x: layers.Activation("softmax", name="s")(x), "Activation 's' is not understood and reads them"),
        (lambda x: layers.Lambda(lambda t: t, name="l")(x), "Lambda 'l' is not understood and reads them"),
        (lambda x: x[..., :2], "GetItem 'get_item"),
        (lambda x: x * np.ones(4, "float32"), "Multiply 'multiply"),
        (lambda x: layers.BatchNormalization(axis=1, name="b")(x), "BatchNormalization 'b' is not understood"),
    ],
)
def test_what_is_not_understood_freezes_and_is_named(layer, words):
    named = groups(model(lambda x: layers.Conv2D(1, 1)(layer(layers.Conv2D(4, 1, name="c")(x)))))
    assert named["c"].frozen.startswith(words)


def test_a_layer_of_another_call_is_not_taken_for_its_parent():
    class Mixed(layers.Dense):
        def call(self, inputs):
            return super().call(inputs[:, ::-1])

    named = groups(model(lambda x: layers.Dense(1)(Mixed(3, name="m")(layers.Dense(4, name="d")(x))), shape=(5,)))
    assert "Mixed 'm' is not understood" in named["d"].frozen
    assert "m" not in named


def test_arithmetic_is_understood():
    def net(x):
        x = layers.Conv2D(4, 1, name="c")(x)
        return layers.Conv2D(1, 1)(ops.relu(x * 2 - 1) + ops.mean(x, axis=(1, 2), keepdims=True))

    graph = Channels(model(net))
    assert graph.group_of("c").frozen is None
    assert [(a.sparse, a.axis, a.ids.tolist()) for a in graph.activations] == [
        (True, -1, graph.group_of("c").channels.tolist())
    ]


def test_activations_and_whether_they_make_zeros():
    def net(x):
        x = layers.Conv2D(2, 1, activation="relu", name="a")(x)
        x = layers.PReLU(shared_axes=(1, 2))(x)
        x = layers.Conv2D(3, 1, activation="gelu", name="b")(x)
        return layers.Conv2D(1, 1)(layers.Activation("relu6")(layers.Activation("linear")(x)))

    graph = Channels(model(net))
    assert [(a.sparse, len(a.ids)) for a in graph.activations] == [(True, 2), (False, 2), (False, 3), (True, 3)]


def test_cost_of_what_is_left():
    net = residual()
    graph = Channels(net)
    macs = [36 * 27 * 4, 36 * 36 * 5, 36 * 45 * 4, 4 * 2]
    assert graph.macs() == sum(macs)
    assert graph.parameters() == sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    kept = graph.keep({"stem": 3, "inner": 2})
    assert graph.macs(kept) == 36 * 27 * 3 + 36 * 27 * 2 + 36 * 18 * 3 + 3 * 2
    assert graph.parameters(kept) == (27 * 3 + 3) + 27 * 2 + 2 * 2 + (18 * 3 + 3) + (3 * 2 + 2)


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "macs"),
    [
        ("vgg_19_bn", (32, 32, 3), 20_035_018, 398.1e6),
        ("resnet_18", (32, 32, 3), 11_173_962, 555.4e6),
        ("resnet_18", (64, 64, 3), 11_173_962, 2.222e9),
    ],
)
def test_sizes_of_the_papers_networks(name, shape, parameters, macs):
    graph = Channels(models.build(name, shape, 10))
    assert graph.parameters() == parameters
    assert graph.macs() == pytest.approx(macs, rel=2e-4)


def test_transposed_convolutions_work_at_their_input():
    net = model(lambda x: layers.Conv2DTranspose(2, 3, strides=2, name="t")(x))
    assert Channels(net).macs() == 36 * 9 * 3 * 2


def test_unknown_sizes_are_told_when_they_are_asked_for():
    graph = Channels(model(lambda x: layers.Conv2D(2, 3)(x), shape=(None, None, 3)))
    with pytest.raises(ValueError, match="its input open. Build it with keras.Input of a fixed shape"):
        graph.macs()


def test_keep_by_number_index_and_boolean():
    net = residual()
    graph = Channels(net)
    group = graph.group_of("inner")
    scores = importance.scores(group)
    best = set(np.argsort(-scores)[:2].tolist())
    for requested in (2, sorted(best), [i in best for i in range(5)]):
        kept = graph.keep({net.get_layer("inner"): requested})
        assert set(np.flatnonzero(kept[group.channels]).tolist()) == best
    assert graph.keep({"inner": 2}, multiple=4)[group.channels].sum() == 4


@pytest.mark.parametrize(
    ("requested", "words"),
    [
        ({"inner": 0}, r"keep\['inner'\]=0: the group has 5 channels. Expected a number from 1 to 5"),
        ({"inner": 6}, "Expected a number from 1 to 5"),
        ({"inner": [5]}, "indices below 5"),
        ({"inner": [False] * 5}, "5 booleans with one True"),
        ({"head": 1}, "The width of 'head' cannot change: it is an output of the model"),
        ({"nobody": 1}, "'nobody' makes no channels here.*a group: stem, inner, head"),
    ],
)
def test_keep_says_what_is_wrong(requested, words):
    with pytest.raises(ValueError, match=words):
        Channels(residual()).keep(requested)


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="is not a graph of layers"):
        Channels(Own())
    with pytest.raises(ValueError, match="is not built yet"):
        Channels(keras.Sequential([layers.Dense(2)]))


def test_prints_and_draws_itself():
    graph = Channels(residual())
    assert str(graph).startswith(
        "stem: 4 channels\n    made by stem, outer\n    read by inner, head\ninner: 5 channels\n    made by inner\n"
        "    through inner_bn\n    read by outer\n"
    )
    axes = graph.plot().axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["stem (4)", "inner (5)", "head (2)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["stem", "inner", "inner_bn", "outer", "head"]
