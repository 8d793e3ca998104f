import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import SmoothReLU, testing
from tfsparse.backend.precision import dtype_policy
from tfsparse.optimizers import masked_layer

X = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")


def nested():
    """ReLU of all kinds, a model inside a model, a shared layer, and activations that stay as they are."""
    keras.utils.set_random_seed(0)
    activations = [layers.ReLU(name="relu"), layers.ReLU(6.0, name="six")]
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), *activations])
    shared = layers.Dense(8, activation="relu", name="shared")
    inputs = keras.Input((6, 6, 3))
    x = layers.Flatten()(inner(layers.BatchNormalization()(inputs)))
    x = shared(shared(layers.Dense(8, activation="tanh", name="first")(x))) + 1.0
    x = layers.Activation("relu", name="last")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Dropout(0.1)(x)))


def values(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.weights]


def set_smoothness(model, smoothness):
    for activation in masked_layer.training_activations(model):
        activation.smoothness.assign(smoothness)


def test_every_relu_is_replaced_and_nothing_else():
    model = nested()
    smooth = tfsparse.tost(model)
    found = sorted(activation.name for activation in masked_layer.training_activations(smooth))
    assert found == ["last_relu", "relu", "shared_relu"]
    assert [layer.name for layer in smooth.layers[1:]] == [layer.name for layer in model.layers[1:]]


def test_the_copy_computes_with_swish():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu")])
    kernel, x = values(model)[0], X[:, 0, 0]
    np.testing.assert_allclose(tfsparse.tost(model)(x), x @ kernel / (1 + np.exp(-x @ kernel)), rtol=1e-5)


def test_finalize_undoes_tost_with_equal_outputs():
    model = nested()
    smooth = tfsparse.tost(model)
    assert not np.allclose(smooth(X), model(X))
    set_smoothness(smooth, 0.0)
    plain = tfsparse.finalize(smooth)
    np.testing.assert_array_equal(plain(X), model(X))
    np.testing.assert_array_equal(plain(X), smooth(X))
    assert not masked_layer.training_activations(plain)
    assert plain.get_layer("shared").activation is keras.activations.relu
    assert all(np.array_equal(a, b) for a, b in zip(values(plain), values(model), strict=True))


def test_the_copy_shares_nothing_with_the_model():
    """JAX takes an array away from whoever else holds it when it trains on it."""
    model = testing.small_model()
    before, (x, y) = values(model), testing.small_data()
    smooth = tfsparse.tost(model)
    smooth.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    smooth.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def test_thresholds_and_smooth_activations_go_together():
    model = testing.small_model()
    x, _ = testing.small_data()
    thresholded = tfsparse.dst(model)
    masked_layer.masked_layers(thresholded)[0].thresholds[0].assign([[[[0.1] * 4]]])
    smooth = tfsparse.dst(tfsparse.tost(model))
    assert len(masked_layer.training_activations(smooth)) == 2
    assert len(masked_layer.masked_layers(smooth)) == 3
    set_smoothness(smooth, 0.0)
    np.testing.assert_allclose(tfsparse.finalize(smooth)(x), model(x), rtol=1e-6)
    with pytest.raises(ValueError, match="Nothing to make smooth"):  # inside of wrappers nothing is replaced
        tfsparse.tost(keras.Sequential([keras.Input((6, 6, 1)), thresholded.layers[0]]))


def test_the_policy_of_a_layer_is_that_of_its_activation():
    with dtype_policy("mixed_float16"):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu"), layers.ReLU()])
    smooth = tfsparse.tost(model)
    assert {a.compute_dtype for a in masked_layer.training_activations(smooth)} == {"float16"}
    set_smoothness(smooth, 0.0)
    assert {layer.compute_dtype for layer in tfsparse.finalize(smooth).layers} == {"float16"}


def test_before_the_end_there_is_no_plain_model():
    with pytest.raises(ValueError, match="'conv_relu' is not ReLU yet, its smoothness is 1: train to the end"):
        tfsparse.finalize(tfsparse.tost(testing.small_model()))


def test_a_model_that_cannot_be_converted_is_refused():
    class Net(keras.Model):
        pass

    with pytest.raises(ValueError, match=r"subclassed model, .* activation=tfsparse.SmoothReLU\(\)"):
        tfsparse.tost(Net())
    with pytest.raises(ValueError, match=r"start it with Input\(shape\)"):
        tfsparse.tost(keras.Sequential([layers.Dense(3, activation="relu")]))
    with pytest.raises(ValueError, match="Nothing to make smooth: 'sequential.*' has no layer with activation"):
        tfsparse.tost(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    inner = layers.TimeDistributed(layers.Dense(2, activation=SmoothReLU(0.0)))
    with pytest.raises(ValueError, match="has SmoothReLU inside a layer around other layers"):
        tfsparse.finalize(keras.Sequential([keras.Input((4, 4)), inner]))
