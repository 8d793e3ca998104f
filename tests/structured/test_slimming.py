"""Networks within a budget."""

import numpy as np
import pytest
from keras import layers
from structured.small_models import model, residual

from tfsparse import Channels, slim
from tfsparse.experiments.zoo import models
from tfsparse.structured import importance, slimming


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(("what", "cost"), [("flops", Channels.macs), ("parameters", Channels.parameters)])
def test_meets_the_budget_and_leaves_little_of_it(what, cost, budget):
    net = models.build("resnet_20", (16, 16, 3), 10)
    graph = Channels(slim(net, **{what: budget}))
    assert budget * 0.97 < cost(graph) / cost(Channels(net)) <= budget


def test_sparsity_is_that_of_channels():
    net = models.build("lenet_300_100", (28, 28, 1), 10)
    small = slim(net, sparsity=0.5)
    assert small.get_layer("dense1").units + small.get_layer("dense2").units == 200


def test_drops_what_is_worth_least_of_all_groups():
    def net(x):
        x = layers.Dense(10, name="a")(x)
        return layers.Dense(1)(layers.Dense(10, name="b")(x))

    net = model(net, shape=(4,))
    for name, norms in (("a", [5.0] * 8 + [0.2, 0.1]), ("b", [1.0] * 9 + [0.15])):
        kernel = net.get_layer(name).kernel
        kernel.assign(kernel.numpy() / np.linalg.norm(kernel.numpy(), axis=0) * np.array(norms))
    graph = Channels(net)
    selection = slimming._Selection(graph, "l2", 1)
    a, b = graph.group_of("a").channels, graph.group_of("b").channels
    kept = selection.kept(2)  # 0.1 and 0.2 of a mean of 4.03 are less than 0.15 of a mean of 0.915
    assert (kept[a].sum(), kept[b].sum()) == (8, 10)
    kept = selection.kept(3)
    assert (kept[a].sum(), kept[b].sum()) == (8, 9)


def test_rounds_up_to_a_multiple_and_stays_within_the_budget():
    net = models.build("resnet_20", (16, 16, 3), 10)
    graph = Channels(net)
    small = slim(net, flops=0.5, multiple=8)
    widths = {layer.filters for layer in small.layers if hasattr(layer, "filters")}
    assert {w % 8 for w in widths - {small.get_layer("stem").filters}} <= {0, *(w % 8 for w in widths if w > 16)}
    inner = [small.get_layer(f"stage{s}_block{b}_conv1").filters for s in (1, 2, 3) for b in (1, 2, 3)]
    assert {w % 8 for w in inner} == {0}
    assert Channels(small).macs() <= 0.5 * graph.macs()


def test_a_score_of_ones_own_decides():
    net = residual()
    small = slim(net, sparsity=0.2, score=lambda g: np.arange(len(g)) + 1.0)
    kept = small.get_layer("inner").kernel.numpy()
    np.testing.assert_array_equal(kept, net.get_layer("inner").kernel.numpy()[:, :, -4:, 1:][:, :, -kept.shape[2] :])


def test_latency_is_measured(monkeypatch):
    monkeypatch.setitem(slimming._COSTS, "latency", lambda graph, kept: graph.macs(kept) ** 0.5)
    net = models.build("resnet_20", (16, 16, 3), 10)
    small = slim(net, latency=0.5)
    assert 0.2 < Channels(small).macs() / Channels(net).macs() <= 0.25
    assert slimming._seconds(Channels(residual()), np.ones(1, bool)) > 0


@pytest.mark.parametrize("budgets", [{}, {"flops": 0.5, "parameters": 0.5}, {"flops": 1.5}, {"latency": 0}])
def test_one_budget_is_expected(budgets):
    with pytest.raises(ValueError, match=r"expected one of flops, parameters, sparsity or latency.*slim\(model, flops"):
        slim(residual(), **budgets)


def test_budgets_out_of_reach_are_told():
    with pytest.raises(ValueError, match="the model still costs 0.0.* more than 0.0001. Pass a larger budget"):
        slim(models.build("resnet_20", (16, 16, 3), 10), flops=0.0001)
    with pytest.raises(ValueError, match="No width of .* can change"):
        slim(model(lambda x: layers.Dense(2)(x), shape=(3,)), flops=0.5)


def test_every_layer_keeps_a_tenth():
    net = models.build("lenet_300_100", (28, 28, 1), 10)
    net.get_layer("dense2").kernel.assign(np.zeros((300, 100)))
    kept = slimming._Selection(graph := Channels(net), "l2", 1).kept(10_000 // 30)
    assert kept[graph.group_of("dense2").channels].sum() == 10
    assert importance.scores(graph.group_of("dense2")).sum() == 0


def test_groups_that_keep_all_their_channels_are_named_with_the_reason():
    def net(x):
        x = layers.LayerNormalization(name="norm")(layers.Dense(8, name="a")(x))
        return layers.Dense(2)(layers.Dense(6, name="b")(x))

    with pytest.warns(UserWarning, match=r"^slim makes only .*smaller. a keeps its 8 channels: .*'norm'.* All"):
        small = slim(model(net, shape=(4,)), sparsity=0.5)
    assert (small.get_layer("a").units, small.get_layer("b").units) == (8, 3)


def test_weights_of_layers_without_a_rule_are_named():
    def net(x):
        x = layers.MultiHeadAttention(2, 3, name="mha")(x, x)
        return layers.Dense(2)(layers.Dense(6)(layers.Flatten()(x)))

    with pytest.warns(UserWarning, match=r"mha/query/kernel \(4, 2, 3\) keeps its shape: its layer has no rule; "):
        slim(model(net, shape=(5, 4)), sparsity=0.5)


def test_of_many_groups_a_few_are_named():
    def net(x):
        for i in range(6):
            x = layers.LayerNormalization()(layers.Dense(8, name=f"a{i}")(x))
        return layers.Dense(2)(layers.Dense(6)(x))

    with pytest.warns(UserWarning, match=r"a3 keeps its 8 channels: [^;]*; and 2 more. All groups"):
        slim(model(net, shape=(4,)), sparsity=0.5)
