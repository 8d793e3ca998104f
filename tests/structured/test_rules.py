"""How operations treat channels, and how users add a rule for a layer of their own."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers
from structured.small_models import assert_equal_outputs, model

from tfsparse import Channels, mask_channels, shrink
from tfsparse.structured import multiply_adds, rules


class Doubling(layers.Layer):
    """A layer without a rule."""

    def call(self, inputs):
        return inputs * 2


def test_an_elementwise_layer_of_ones_own_needs_one_line(monkeypatch):
    net = model(lambda x: layers.Conv2D(2, 3, padding="same")(Doubling()(layers.Conv2D(4, 1, name="c")(x))))
    assert "Doubling" in Channels(net).group_of("c").frozen
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    rules.register(Doubling, rules.Elementwise())
    mask_channels(net, {"c": [0, 3]})
    small = shrink(net)
    assert small.get_layer("c").filters == 2
    assert_equal_outputs(small, net)


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "shrinking.md"
EXAMPLES = [b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "import keras" in b]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_complete_examples_of_the_page_run(example, monkeypatch):
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    monkeypatch.setattr(multiply_adds, "USES", dict(multiply_adds.USES))
    assert "assert" in example
    exec(example, {})


def test_the_page_has_its_complete_examples():
    assert [("rules.register" in e, "multiply_adds.register" in e) for e in EXAMPLES] == [(True, False), (False, True)]


def test_a_subclass_is_understood_as_long_as_it_calls_alike():
    class Named(layers.Dense):
        """Only another name."""

    class Other(layers.Dense):
        def call(self, inputs):
            return super().call(inputs)

    assert rules.for_operation(Named(3)) is rules.for_operation(layers.Dense(3))
    assert rules.for_operation(Other(3)) is rules.UNKNOWN


def test_zero_wins_over_what_varies_and_nan_does_not_leak():
    def net(x):
        a, b = layers.Dense(3, name="a")(x), layers.Dense(3, name="b")(x)
        return layers.Dense(1, name="head")(layers.Multiply()([a, b]))

    net = model(net, shape=(2,))
    net.get_layer("a").set_weights([np.array([[1.0, 0, 0], [1, 0, 0]]), np.array([1.0, 0, 2])])
    call = next(c for c in Channels(net).linear_calls if c.layer.name == "head")
    np.testing.assert_array_equal(call.values, [np.nan, 0, np.nan])


def test_constants_are_what_the_operation_makes_of_them():
    def net(x):
        x = layers.BatchNormalization(name="n")(layers.Dense(2, name="a")(x))
        return layers.Dense(1, name="head")(keras.ops.tanh(x) + 1)

    net = model(net, shape=(2,))
    net.get_layer("a").set_weights([np.array([[1.0, 0], [1, 0]]), np.array([0.0, 0.5])])
    gamma, beta, mean, variance = (w.numpy()[1] for w in net.get_layer("n").weights)
    expected = np.tanh(gamma * (0.5 - mean) / np.sqrt(variance + 1e-3) + beta) + 1
    call = next(c for c in Channels(net).linear_calls if c.layer.name == "head")
    np.testing.assert_allclose(call.values, [np.nan, expected], rtol=1e-5)
