"""Statistics of BatchNormalization that are measured again."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import testing
from tfsparse.backend import replicas

X = np.random.default_rng(0).normal(2, 3, size=(24, 5)).astype("float32")


def values(variable):
    return np.array(ops.convert_to_numpy(variable))


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = layers.BatchNormalization(name="first", momentum=0.9)(inputs)
    x = layers.Dropout(0.5)(layers.Dense(4, name="dense")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization(name="second")(x)))


def normalized(x, epsilon=1e-3):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon)


def test_statistics_are_means_over_the_batches():
    """The second layer sees what the first one normalizes by the statistics of the batch, without dropout."""
    model = network()
    tfsparse.recalibrate(model, [X[:8], X[8:16], X[16:]])
    dense = model.get_layer("dense")
    batches = np.split(X.astype("float64"), 3)
    inside = [normalized(b) @ values(dense.kernel) + values(dense.bias) for b in batches]
    for name, expected in (("first", batches), ("second", inside)):
        layer = model.get_layer(name)
        np.testing.assert_allclose(values(layer.moving_mean), np.mean([b.mean(0) for b in expected], 0), atol=1e-5)
        np.testing.assert_allclose(values(layer.moving_variance), np.mean([b.var(0) for b in expected], 0), rtol=1e-4)


def test_a_layer_that_is_called_twice_has_the_mean_over_all_its_calls():
    first, second = keras.Input((5,)), keras.Input((5,))
    shared = layers.BatchNormalization()
    model = keras.Model([first, second], layers.Add()([shared(first), shared(second)]))
    tfsparse.recalibrate(model, [([X[:8], X[8:16]], None), ([X[16:20], X[20:]], None)])
    calls = [X[:8], X[8:16], X[16:20], X[20:]]
    np.testing.assert_allclose(values(shared.moving_mean), np.mean([b.mean(0) for b in calls], 0), atol=1e-5)
    np.testing.assert_allclose(values(shared.moving_variance), np.mean([b.var(0) for b in calls], 0), rtol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas of tf.distribute")
def test_replicas_hold_the_statistics_of_one_device():
    one = network()
    with testing.two_cpu_strategy().scope():
        mirrored = network()
        mirrored.compile("sgd", "mse", run_eagerly=True)
    mirrored.fit(X, np.zeros((24, 2)), batch_size=8, verbose=0)  # each replica has seen other images
    one.set_weights(mirrored.get_weights())
    for model in (one, mirrored):
        tfsparse.recalibrate(model, [X[:8], X[8:16], X[16:]])
    for name in ("first", "second"):
        for statistic in ("moving_mean", "moving_variance"):
            expected = values(getattr(one.get_layer(name), statistic))
            copies = replicas.replica_values(getattr(mirrored.get_layer(name), statistic))
            assert len(copies) == 2
            np.testing.assert_allclose(copies, [expected, expected], rtol=1e-5, atol=1e-6)


def test_arrays_are_split_into_batches_of_128():
    x = np.random.default_rng(1).normal(size=(200, 5)).astype("float32")
    one, other, third = network(), network(), network()
    tfsparse.recalibrate(one, [x[:128], x[128:]])
    tfsparse.recalibrate(other, x)
    tfsparse.recalibrate(third, (x, np.zeros((200, 2))))
    means = [values(model.get_layer("second").moving_mean) for model in (one, other, third)]
    assert np.array_equal(means[0], means[1]) and np.array_equal(means[0], means[2])


def test_nothing_else_changes():
    model = network()
    model.get_layer("second").trainable = False
    before = {v.path: values(v) for v in model.variables}
    tfsparse.recalibrate(model, X)
    changed = {path for path, value in before.items() if not np.array_equal(value, values(by_path(model)[path]))}
    assert changed == {f"{layer}/moving_{name}" for layer in ("first", "second") for name in ("mean", "variance")}
    assert (model.get_layer("first").momentum, model.layers[3].rate) == (0.9, 0.5)
    assert not model.get_layer("second").trainable


def by_path(model):
    return {v.path: v for v in model.variables}


def test_datasets_of_pairs_are_read_up_to_a_number_of_batches():
    one, other = network(), network()
    tfsparse.recalibrate(one, iter([(X[:8], None), (X[8:16], None), (np.full((8, 5), np.nan), None)]), batches=2)
    tfsparse.recalibrate(other, [X[:8], X[8:16]])
    assert np.array_equal(values(one.get_layer("second").moving_mean), values(other.get_layer("second").moving_mean))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((keras.Sequential([keras.Input((5,)), layers.Dense(2)], name="plain"), X), "'plain' has no BatchNorm"),
        ((network(), X, 0), "batches=0: expected a whole number of at least 1"),
        ((network(), X, 2.5), "batches=2.5: expected a whole number of at least 1"),
        ((network(), []), "data has no batch: expected at least one"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfsparse.recalibrate(*arguments)


def test_a_model_of_tf_keras_is_refused_with_the_conversion():
    tf_keras = pytest.importorskip("tf_keras")
    with pytest.raises(TypeError, match=r"write tfsparse.recalibrate\(tfsparse.tfmot.to_keras3\(model\), data\)"):
        tfsparse.recalibrate(tf_keras.Sequential([tf_keras.layers.BatchNormalization(input_shape=(5,))]), X)
