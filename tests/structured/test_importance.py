"""What a channel is worth."""

import numpy as np
import pytest
from keras import layers
from structured.small_models import model, residual

from tfsparse import Channels
from tfsparse.structured import importance


def test_norms_are_summed_over_the_makers():
    net = residual()
    kernels = [net.get_layer(name).kernel.numpy() for name in ("stem", "outer")]
    group = Channels(net).group_of("stem")
    squares = sum((k**2).sum(axis=(0, 1, 2)) for k in kernels)
    np.testing.assert_allclose(importance.scores(group), np.sqrt(squares), rtol=1e-6)
    sums = sum(np.abs(k).sum(axis=(0, 1, 2)) for k in kernels)
    np.testing.assert_allclose(importance.scores(group, "l1"), sums, rtol=1e-6)


def test_scales_of_normalization_or_where_there_is_none_the_norm():
    net = residual()
    graph = Channels(net)
    inner, stem = graph.group_of("inner"), graph.group_of("stem")
    gamma = np.abs(net.get_layer("inner_bn").gamma.numpy())
    np.testing.assert_allclose(importance.scores(inner, "gamma"), gamma, rtol=1e-6)
    np.testing.assert_allclose(importance.scores(stem, "gamma"), importance.scores(stem, "l2"))


def test_a_function_of_ones_own():
    group = Channels(residual()).group_of("inner")
    assert importance.scores(group, lambda g: range(len(g))).tolist() == [0, 1, 2, 3, 4]


def test_unknown_scores_are_named():
    with pytest.raises(ValueError, match="score='l3': expected one of 'l2', 'l1', 'gamma', or a function"):
        importance.scores(Channels(residual()).group_of("inner"), "l3")


def test_the_best_of_every_maker_comes_first():
    def net(x):
        a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(2, 1, name="b")(x)
        wide = layers.Conv2D(4, 1, name="wide")(x)
        return layers.Conv2D(1, 1)(layers.Concatenate()([a, b]) + wide)

    group = Channels(model(net)).group_of("wide")
    assert importance.order(group, np.array([4.0, 3, 1, 2])).tolist() == [0, 3, 1, 2]
