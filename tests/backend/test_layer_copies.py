"""Copies of layers for models that are built anew."""

import keras
import numpy as np
import pytest
from keras import layers

from tfsparse.backend.layer_copies import copy_layer, copy_or_share


class Scale(layers.Layer):
    """Has no weights, and no config."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


class Gain(layers.Layer):
    """Has a weight, and no config."""

    def __init__(self, start):
        super().__init__()
        self.gain = self.add_weight(shape=(), initializer=keras.initializers.Constant(start))

    def call(self, inputs):
        return inputs * self.gain


def test_a_layer_with_weights_is_made_anew_from_its_config():
    layer = layers.Dense(3, "relu", name="dense")
    layer.build((None, 2))
    copy = copy_layer(layer)
    assert copy is not layer and (copy.name, copy.units, copy.built) == ("dense", 3, False)
    assert copy_layer(layer, units=2).units == 2


@pytest.mark.parametrize("layer", [layers.Lambda(lambda x: x / 2), Scale(2.0), layers.ReLU()], ids=lambda x: x.name)
def test_a_layer_without_weights_is_used_again(layer):
    assert copy_layer(layer) is layer


def test_a_layer_without_a_config_is_named():
    with pytest.raises(ValueError, match=r"^Gain 'gain.*' cannot be rebuilt.*Give its class a get_config that returns"):
        copy_layer(Gain(2.0))


def test_a_layer_that_cannot_be_copied_is_shared_with_a_warning():
    layer = Gain(2.0)
    with pytest.warns(UserWarning, match="shares an object and its state with the given one. Gain 'gain"):
        assert copy_or_share(layer) is layer


def test_a_metric_that_cannot_be_copied_is_shared_with_a_warning():
    class Above(keras.metrics.Mean):
        def __init__(self, limit):
            super().__init__()
            self.limit = limit

    metric = Above(0.5)
    with pytest.warns(UserWarning, match="Above"):
        assert copy_or_share(metric) is metric
    assert np.isclose(float(copy_or_share(keras.metrics.Mean()).result()), 0.0)
