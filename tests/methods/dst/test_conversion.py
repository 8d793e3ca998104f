import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import Thresholded, testing
from tfsparse.optimizers import masked_layer


def nested():
    """A model inside a model, a shared layer, an operation that is no layer, and layers that stay as they are."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="inner")
    shared = layers.Dense(8, activation="relu", name="shared")
    inputs = keras.Input((6, 6, 3))
    x = layers.Flatten()(inner(layers.BatchNormalization()(inputs)))
    x = shared(shared(layers.Dense(8, name="first")(x))) + 1.0
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Dropout(0.1)(x)))


def values(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.weights]


def names(model):
    return [layer.name for layer in masked_layer.masked_layers(model)]


def test_finalize_undoes_dst():
    model, x = nested(), np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    wrapped = tfsparse.dst(model, alpha=0.125, threshold="scalar")
    assert sorted(names(wrapped)) == ["conv", "first", "head", "shared"]
    assert {float(layer.alpha) for layer in masked_layer.masked_layers(wrapped)} == {0.125}
    np.testing.assert_array_equal(wrapped(x), model(x))
    plain = tfsparse.finalize(wrapped)
    assert not masked_layer.masked_layers(plain)
    assert all(np.array_equal(a, b) for a, b in zip(values(plain), values(model), strict=True))


def test_the_copy_leaves_the_original_alone():
    """JAX takes an array away from whoever else holds it when it trains on it."""
    model = testing.small_model()
    before = values(model)
    wrapped = tfsparse.dst(model)
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    wrapped.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))
    plain = tfsparse.finalize(wrapped)
    wrapped.fit(x, y, verbose=0)
    plain(x)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"skip_first": True}, {"shared", "head", "first"}),
        ({"skip_last": True}, {"conv", "first", "shared"}),
        ({"skip_first": True, "skip_last": True}, {"first", "shared"}),
    ],
)
def test_the_first_and_the_last_layer_can_be_left_out(options, left):
    assert set(names(tfsparse.dst(nested(), **options))) == left


def test_excluded_layers_stay_as_they_are():
    model = nested()
    for exclude in ([model.get_layer("shared")], model.get_layer("shared"), "shared"):
        assert set(names(tfsparse.dst(model, exclude=exclude))) == {"conv", "first", "head"}


def test_frozen_layers_stay_as_they_are():
    model = nested()
    model.get_layer("first").trainable = False
    assert "first" not in names(tfsparse.dst(model))


def test_what_is_thresholded_already_is_not_thresholded_again():
    model = keras.Sequential([keras.Input((4,)), Thresholded(layers.Dense(4)), layers.Dense(2)])
    wrapped = tfsparse.dst(model)
    assert len(names(wrapped)) == 2
    assert isinstance(wrapped.layers[0].layer, layers.Dense)


def test_a_model_that_cannot_be_converted_is_refused():
    class Net(keras.Model):
        pass

    with pytest.raises(ValueError, match="is a subclassed model, whose layers cannot be exchanged"):
        tfsparse.dst(Net())
    with pytest.raises(ValueError, match=r"start it with Input\(shape\)"):
        tfsparse.dst(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="Nothing to prune"):
        tfsparse.dst(keras.Sequential([keras.Input((4,)), layers.ReLU()]))
