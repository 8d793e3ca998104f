"""Whole trainings: which filters go, what stays with its optimizer state, and that a kill changes nothing."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.structured.stages.rounds import RoundOptions

layers = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 6, 6, 2)).astype("float32")
Y = (X[:, :3].mean((1, 2, 3)) > X[:, 3:].mean((1, 2, 3))).astype("int64")
FIT = {"epochs": 3, "batch_size": 24, "verbose": 0}
EAGER = keras.backend.backend() == "tensorflow"  # there quicker than to compile three stages, on JAX slower
WIDTHS = {"conv": 6, "stem": 9, "hidden": 10}


def net():
    """A convolution inside a residual block, whose sum is read by a dense layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(9, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="bn")(x))
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(x)
    y = layers.Conv2D(9, 3, padding="same", name="back")(y)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="add")([x, y]))
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], run_eagerly=EAGER)
    return model


def driver(model=None, **options):
    return tfsparse.FilterPruning(model or net(), **{"sparsity": 0.5, "rounds": 2} | options)


def numpy(variable):
    return keras.ops.convert_to_numpy(variable)


def bits(model):
    return [numpy(v).tobytes() for v in [*model.variables, *model.optimizer.variables]]


@pytest.fixture(scope="module")
def straight():
    done = driver()
    return done, done.fit(X, Y, **FIT)


def test_every_layer_loses_the_fraction_of_its_channels(straight):
    done, history = straight
    gone = [history.history["stage"], *([w[name] for w in history.history["widths"]] for name in WIDTHS)]
    # 6: 1.5 and 3 to the even number; 9: 2.25 and 4.5 to the even number; 10: 2.5 and 5
    assert gone == [[0, 1, 2], [6, 4, 3], [9, 7, 5], [10, 8, 5]]
    assert [resize["epoch"] for resize in done.resizes] == [1, 2]
    assert done.model.get_layer("head").units == 2
    assert history.epoch == [0, 1, 2] and done.stopped is None and done.seconds > 0
    assert "density" not in history.history and done.measured == ""


def test_macs_and_training_complexity_are_those_of_the_widths(straight):
    done, history = straight
    widths = [[w[name] for name in WIDTHS] for w in history.history["widths"]]
    macs = [36 * 9 * (2 * s + 2 * s * c) + s * h + h * 2 for c, s, h in widths]
    assert history.history["macs"] == macs
    assert done.training_complexity == pytest.approx(sum(macs) / (3 * macs[0]))


class Look(keras.callbacks.Callback):
    """Remembers the variables of the model and of its optimizer at both ends of every stage."""

    def on_train_begin(self, logs=None):
        self.begun = [*getattr(self, "begun", []), self._values()]

    def on_train_end(self, logs=None):
        self.ended = [*getattr(self, "ended", []), self._values()]

    def _values(self):
        model, found = self.model, {}
        for variable in [*model.variables, *model.optimizer.variables]:
            found[variable.path.split("/", 1)[-1] if "adam" in variable.path else variable.path] = numpy(variable)
        return found


def test_the_filters_of_the_smallest_norm_go_and_the_others_keep_all_they_have():
    look, done = Look(), driver()
    done.fit(X, Y, callbacks=[look], **FIT)
    old, new, keep = look.ended[0], look.begun[1], done.resizes[0]["keep"]

    def expected(width, *names):
        norms = sum(np.abs(old[f"{name}/kernel"]).reshape(-1, old[f"{name}/kernel"].shape[-1]).sum(0) for name in names)
        return sorted(np.argsort(-norms)[:width].tolist())

    assert keep["conv"] == expected(4, "conv") and keep["hidden"] == expected(8, "hidden")
    assert keep["stem"] == expected(7, "stem", "back")  # they meet in an addition: their norms are added
    stem, conv = keep["stem"], keep["conv"]
    for slot in ("", "_momentum", "_velocity"):  # Adam's slots are cut like the kernels
        kernel = next(k for k in old if k.endswith("conv_kernel" + slot) or (not slot and k == "conv/kernel"))
        np.testing.assert_array_equal(new[kernel], old[kernel][:, :, stem][..., conv])
        assert slot == "" or np.any(new[kernel])
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        np.testing.assert_array_equal(new[f"bn/{name}"], old[f"bn/{name}"][stem])
    assert new["iteration"] == old["iteration"] == 2


class Killed(BaseException):
    pass


class Kill(keras.callbacks.Callback):
    """Dies at the begin of an epoch, or at its end."""

    def __init__(self, epoch, begin):
        super().__init__()
        self.epoch, self.begin = epoch, begin

    def on_epoch_begin(self, epoch, logs=None):
        if (epoch, True) == (self.epoch, self.begin):
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, False) == (self.epoch, self.begin):
            raise Killed


def test_killed_and_resumed_it_ends_with_the_same_bits(straight, tmp_path):
    for kill in (Kill(1, begin=True), Kill(2, begin=False)):
        with pytest.raises(Killed):
            driver(directory=tmp_path / "run").fit(X, Y, callbacks=[kill], **FIT)
    done = driver(directory=tmp_path / "run")
    history = done.fit(X, Y, **FIT)
    assert bits(done.model) == bits(straight[0].model)
    assert history.history["loss"] == straight[1].history["loss"]
    assert history.history["widths"] == straight[1].history["widths"]


def test_a_directory_of_another_method_is_refused(tmp_path):
    driver(directory=tmp_path / "run", rounds=1).fit(X, Y, **FIT | {"epochs": 2})
    with pytest.raises(run_directory.RunError, match="method: 'filter_pruning' -> None"):
        tfsparse.ActivationDensity(net(), directory=tmp_path / "run").fit(X, Y, **FIT | {"epochs": 2})


def test_a_resize_prints_a_line(capsys):
    driver(rounds=1).fit(X, Y, **FIT | {"epochs": 2, "verbose": 2})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert line == "epoch 1: round 1 of 1, widths 9-6-10 -> 5-3-5, MACs 100 % -> 32 %"


def test_a_layer_keeps_its_smallest_width_and_a_round_without_a_change_ends_too():
    done = driver(smallest=9)
    history = done.fit(X, Y, **FIT)
    assert history.history["widths"] == [WIDTHS | {"hidden": width} for width in (10, 9, 9)]
    assert history.history["stage"] == [0, 1, 2] and done.resizes[1]["keep"] == {}


def test_a_worse_stage_is_undone_if_a_tolerance_is_given():
    class Fall(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = 0.9 - 0.5 * (epoch == 1)

    done = driver(tolerance=0.1, monitor="score")
    history = done.fit(X, Y, callbacks=[Fall()], **FIT)
    assert history.history["stage"] == [0, 1, 0] and done.stopped.startswith("rolled back, since score 0.4000")


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="rounds=2: a training of 2 epochs is too short"):
        driver().fit(X, Y, **FIT | {"epochs": 2})
    with pytest.raises(TypeError, match=r"FilterPruning\(\) has no argument 'sparsty'.*Did you mean 'sparsity'"):
        tfsparse.FilterPruning(net(), sparsty=0.5)
    with pytest.raises(ValueError, match="is not compiled"):
        driver(keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)]))

    class Subclassed(keras.Model):
        pass

    model = Subclassed()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="is not a graph of layers"):
        driver(model)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no layer to resize: none of its 1 groups of channels is free"):
        driver(model).fit(np.ones((4, 3)), np.ones((4, 2)), epochs=3, verbose=0)


@pytest.mark.parametrize("method", [tfsparse.FilterPruning])
def test_every_option_is_an_argument_with_a_row(method):
    parameters = inspect.signature(method).parameters
    assert [*parameters] == ["model", "directory", *(f.name for f in dataclasses.fields(RoundOptions))]
    document = " ".join(inspect.getdoc(method).split())
    assert all(f"{name}: " in document for name in parameters) and "{options}" not in document
