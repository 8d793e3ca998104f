"""Densities against NumPy."""

import keras
import numpy as np
import pytest

from tfsparse.methods.activation_density import density
from tfsparse.structured import Channels
from tfsparse.testing.devices import two_cpu_strategy

layers = keras.layers


def measure(model, x, batch_size=4):
    return density.DensityProbe(model, Channels(model), x, batch_size).measure()


def residual():
    """Two blocks of one width, whose post-Add ReLUs count, with a free layer inside of each."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2))
    x = first = layers.ReLU(name="first")(layers.Conv2D(5, 3, padding="same", name="stem")(inputs))
    for i in range(2):
        y = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"inner{i}")(x)
        y = layers.Conv2D(5, 3, padding="same", bias_initializer=keras.initializers.Constant(-0.3 * i))(y)
        x = layers.ReLU(name=f"post{i}")(layers.Add()([x, y]))
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    assert first is not None
    return keras.Model(inputs, outputs)


def test_golden_densities():
    kernel = np.array([[1.0, -1.0, 0.5, 0.0]], "float32")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(4, activation="relu", name="a"), layers.Dense(1)])
    model.layers[0].set_weights([kernel, np.array([0, 0, -1, 0], "float32")])
    found = measure(model, np.array([[1.0], [2.0], [3.0], [-1.0], [0.0]]), batch_size=2)  # and a last batch of one
    np.testing.assert_allclose(found.channels["a"], [3 / 5, 1 / 5, 1 / 5, 0])
    assert found.groups == {"a": 5 / 20} and found.network == 5 / 20


def test_a_residual_group_has_the_highest_density_of_its_outputs():
    model, x = residual(), np.random.default_rng(0).normal(size=(10, 6, 6, 2)).astype("float32")
    found = measure(model, x)
    names = ["first", "inner0", "post0", "inner1", "post1"]
    values = keras.Model(model.inputs, [model.get_layer(n).output for n in names]).predict(x, verbose=0)
    fraction = {name: np.mean(a > 0) for name, a in zip(names, values, strict=True)}
    assert len({fraction[name] for name in names[::2]}) == 3
    assert len(found.groups) == 3 and found.groups["stem"] == pytest.approx(max(fraction[n] for n in names[::2]))
    assert [found.groups[name] for name in names[1::2]] == pytest.approx([fraction[name] for name in names[1::2]])
    assert found.network == pytest.approx(sum(np.sum(a > 0) for a in values) / sum(a.size for a in values))
    by_channel = [np.mean(a > 0, axis=(0, 1, 2)) for n, a in zip(names, values, strict=True) if "inner" not in n]
    np.testing.assert_allclose(found.channels["stem"], np.max(by_channel, axis=0))


def test_parts_of_a_concatenation_have_their_own_densities():
    inputs = keras.Input((3,))
    parts = [layers.Dense(n, name=name)(inputs) for n, name in ((2, "a"), (3, "b"))]
    model = keras.Model(inputs, layers.Dense(1)(layers.ReLU(name="r")(layers.Concatenate()(parts))))
    x = np.random.default_rng(1).normal(size=(20, 3)).astype("float32")
    is_nonzero = keras.Model(inputs, model.get_layer("r").output).predict(x, verbose=0) > 0
    found = measure(model, x)
    assert found.groups == pytest.approx({"a": is_nonzero[:, :2].mean(), "b": is_nonzero[:, 2:].mean()})


def test_smooth_nonlinearities_count_activations_that_are_large_relative_to_the_rms():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, activation="gelu", name="a"), layers.Dense(1)])
    model.layers[0].set_weights([np.ones((1, 2), "float32"), np.array([0, -0.1], "float32")])
    x = np.array([[0.1], [5.0], [-9.0], [0.001], [400.0], [-0.5]], "float32")
    outputs = np.concatenate([keras.ops.convert_to_numpy(model.layers[0](part)) for part in (x[:3], x[3:])])
    rms = np.repeat([np.sqrt(np.mean(outputs[:3] ** 2)), np.sqrt(np.mean(outputs[3:] ** 2))], 3)[:, None]
    is_nonzero = np.abs(outputs) > 1e-3 * rms
    assert 0 < is_nonzero.sum() < np.sum(outputs != 0)  # an exact zero is hardly ever met
    assert is_nonzero[:, 1].tolist() == [False, True, False, False, True, False]
    np.testing.assert_allclose(measure(model, x, batch_size=3).channels["a"], is_nonzero.mean(axis=0))


def test_densities_are_those_of_inference_mode_and_channels_may_come_first():
    model = keras.Sequential([keras.Input((6, 1)), layers.Conv1D(4, 3, name="a"), layers.ReLU()])
    model.add(layers.Dropout(0.9))
    model.add(layers.GlobalAveragePooling1D())
    model.add(layers.Dense(2))
    x = np.random.default_rng(2).normal(size=(8, 6, 1)).astype("float32")
    assert measure(model, x).groups == measure(model, x).groups
    count = density.NonzeroCount(axis=-3, sparse=True)
    values = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2) % 5
    expected = [*(values != 0).sum(axis=(0, 2, 3)), 8]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(count(values.astype("float32"))), [expected])


def test_counts_may_exceed_int32(monkeypatch):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, activation="relu", name="a"), layers.Dense(1)])
    probe = density.DensityProbe(model, Channels(model), np.zeros((1, 1)), 1)
    rows = np.array([[2**30, 2**29, 2**30]] * 5, "int32")
    monkeypatch.setattr(probe._model, "predict", lambda *args, **options: rows)
    assert probe.measure().groups == {"a": 0.75}


def test_a_model_without_anything_to_resize_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2, activation="relu")])
    with pytest.raises(ValueError, match="has no layer to resize: none of its 2 groups"):
        measure(model, np.zeros((2, 3)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_replicas_add_their_counts():
    x = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("float32")  # the last batch: three on two replicas
    with two_cpu_strategy().scope():
        model = residual()
    one, two = measure(residual(), x), measure(model, x)
    assert two.groups == pytest.approx(one.groups, abs=2e-3) and two.network == pytest.approx(one.network, abs=2e-3)
