"""Whole trainings: which channels go, and that a kill changes nothing."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse.methods.feature_relevance.policy import Options, RelevanceProbe

layers = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 6, 6, 2)).astype("float32")
Y = (X[:, :3].mean((1, 2, 3)) > X[:, 3:].mean((1, 2, 3))).astype("int64")
FIT = {"epochs": 3, "batch_size": 24, "verbose": 0}
EAGER = keras.backend.backend() == "tensorflow"  # there quicker than to compile three stages, on JAX slower


def net():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((6, 6, 2)),
        layers.Conv2D(12, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(name="relu"),
        layers.Flatten(name="flat"),
        layers.Dense(10, activation="relu", name="hidden"),
        layers.Dense(2, name="head"),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=EAGER)
    return model


def driver(model=None, **options):
    return tfsparse.FeatureRelevance(model or net(), **{"sparsity": 0.5, "rounds": 2, "smallest": 2} | options)


def bits(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).tobytes() for v in variables]


@pytest.fixture(scope="module")
def straight():
    done = driver()
    return done, done.fit(X, Y, **FIT)


def test_the_fraction_of_all_channels_goes_layers_as_they_come(straight):
    done, history = straight
    assert [sum(widths.values()) for widths in history.history["widths"]] == [22, 22 - 6, 22 - 11]  # 5.5 to the even
    assert history.history["stage"] == [0, 1, 2] and [r["epoch"] for r in done.resizes] == [1, 2]
    assert done.measured == "48 examples, inference mode"
    last = history.history["widths"][-1]
    assert (
        done.model.get_layer("hidden").units == last["hidden"]
        and done.model.get_layer("bn").gamma.shape[0] == last["conv"]
    )
    macs = [16 * 18 * w["conv"] + 16 * w["conv"] * w["hidden"] + w["hidden"] * 2 for w in history.history["widths"]]
    assert history.history["macs"] == macs and done.training_complexity == pytest.approx(sum(macs) / (3 * macs[0]))


def measured(model, y=Y):
    return RelevanceProbe(model, tfsparse.Channels(model), (X, y), batch_size=20).measure()


def test_channels_that_nobody_reads_have_no_relevance_and_go_first():
    model = net()
    kernel, bias = model.get_layer("head").get_weights()
    kernel[[1, 4]] = 0
    model.get_layer("head").set_weights([kernel, bias])
    found = measured(model)
    assert np.flatnonzero(found["hidden"] == 0).tolist() == [1, 4]
    for values in found.values():
        assert np.linalg.norm(values) == pytest.approx(1) and np.all(values >= 0)
    np.testing.assert_array_equal(measured(model, np.eye(2)[Y])["conv"], found["conv"])  # one-hot labels say the same

    done = driver(model, sparsity=2 / 22, rounds=1)
    model.optimizer.learning_rate.assign(0.0)
    done.fit(X, Y, **FIT | {"epochs": 2})
    assert done.resizes[0]["keep"] == {"hidden": [0, 2, 3, 5, 6, 7, 8, 9]}


def test_layers_that_are_added_have_one_score_per_channel():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    model = keras.Model(inputs, layers.Dense(2)(x))
    found = measured(model)
    assert found.keys() == {"a"} and found["a"].shape == (4,) and np.linalg.norm(found["a"]) == pytest.approx(1)


class Killed(BaseException):
    pass


def test_killed_and_resumed_it_ends_with_the_same_bits(straight, tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    with pytest.raises(Killed):
        driver(directory=tmp_path / "run").fit(X, Y, callbacks=[Kill()], **FIT)
    done = driver(directory=tmp_path / "run")
    history = done.fit(X, Y, **FIT)
    assert bits(done.model) == bits(straight[0].model)
    assert history.history["widths"] == straight[1].history["widths"]


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"The data have no labels.*data=\(x\[:5000\], y\[:5000\]\)"):
        tfsparse.FeatureRelevance(net(), data=X)
    with pytest.raises(ValueError, match="are no classes of a model with 2 outputs"):
        driver().fit(X, Y + 1, **FIT)
    with pytest.raises(ValueError, match="sparsity=0.9: 20 of 22 channels cannot go.*smallest=2. Write sparsity=0.81"):
        driver(sparsity=0.9)
    with pytest.raises(TypeError, match="no argument 'example'"):
        driver(example=3)

    class Subclassed(keras.Model):
        pass

    model = Subclassed()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="is not a graph of layers"):
        driver(model)
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.MultiHeadAttention(1, 2)(inputs, inputs))))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="MultiHeadAttention|multi_head_attention"):
        driver(model)


def test_every_option_is_an_argument_with_a_row():
    parameters = inspect.signature(tfsparse.FeatureRelevance).parameters
    assert [*parameters] == ["model", "data", "directory", *(f.name for f in dataclasses.fields(Options))]
    document = " ".join(inspect.getdoc(tfsparse.FeatureRelevance).split())
    assert all(f"{name}: " in document for name in parameters) and "{options}" not in document
