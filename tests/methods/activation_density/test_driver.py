"""Whole trainings: what they leave, when they go back, and that a kill changes nothing."""

import contextlib
import json
import os
import pathlib
import random
import shutil

import keras
import numpy as np
import pytest
from thoroughly import also

import tfsparse
from tfsparse.backend import files, replicas, run_directory
from tfsparse.structured.stages import training
from tfsparse.structured.stages.examples import ShuffledArrays
from tfsparse.testing.devices import two_cpu_strategy

layers = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 6, 6, 2)).astype("float32")
Y = (X[:, :3].mean((1, 2, 3)) > X[:, 3:].mean((1, 2, 3))).astype("int64")
FIT = {"epochs": 4, "batch_size": 36, "validation_split": 0.25, "verbose": 0}
EAGER = keras.backend.backend() == "tensorflow"  # there quicker than to compile three stages, on JAX slower
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute, tf.data")


def net(optimizer="adam", run_eagerly=EAGER, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((6, 6, 2)),
        layers.Conv2D(12, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Dense(10, activation="relu"),
        layers.Dense(2),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=run_eagerly, **options)
    return model


def driver(model=None, **options):
    options = {"prune_epochs": [1, 3], "min_kept": 0, "smallest": 2, "tolerance": 1.0} | options
    return tfsparse.ActivationDensity(model or net(), **options)


def bits(model):
    return [keras.ops.convert_to_numpy(v).tobytes() for v in [*model.variables, *model.optimizer.variables]]


def widths(model):
    return [layer.kernel.shape[-1] for layer in model.layers if hasattr(layer, "kernel")]


@pytest.fixture(scope="module")
def straight():
    done = driver()
    return done, done.fit(X, Y, **FIT)


# ------------------------------------------------------------------------------------------------ what a training does


def test_widths_follow_the_densities(straight):
    done, history = straight
    assert history.epoch == [0, 1, 2, 3] and history.history["stage"] == [0, 1, 1, 2]
    for before, after in ((0, 1), (2, 3)):
        densities, old = history.history["densities"][before], history.history["widths"][before]
        new = history.history["widths"][after]
        assert new == {name: int(old[name] * densities[name] + 0.5) for name in old} != old
    assert widths(done.model) == [*history.history["widths"][-1].values(), 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "density"} <= history.history.keys()
    assert [r["epoch"] for r in done.resizes] == [1, 3]
    assert done.measured == "72 examples, inference mode" and done.seconds > 0


def test_macs_and_training_complexity_are_those_of_the_widths(straight):
    done, history = straight
    macs = [16 * 9 * 2 * w + 16 * w * d + d * 2 for w, d in (e.values() for e in history.history["widths"])]
    assert history.history["macs"] == macs
    assert done.training_complexity == pytest.approx(sum(macs) / (4 * macs[0]))
    sizes = [18 * w + 2 * w + 16 * w * d + d + d * 2 + 2 for w, d in (e.values() for e in history.history["widths"])]
    assert history.history["parameters"] == sizes


class Look(keras.callbacks.Callback):
    """Remembers every stage as it begins and ends."""

    def on_train_begin(self, logs=None):
        model = self.model
        seen = model.get_weights(), int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        self.begun = [*getattr(self, "begun", []), seen]

    def on_train_end(self, logs=None):
        self.ended = [*getattr(self, "ended", []), (self.model.get_weights(), None)]

    def on_epoch_end(self, epoch, logs=None):
        self.epochs = [*getattr(self, "epochs", []), (epoch, logs["density"])]


def test_inherited_weights_are_those_of_the_channels_that_stay():
    look, done = Look(), driver(net("adam"))
    history = done.fit(X, Y, callbacks=[look], **FIT)
    assert [e for e, _ in look.epochs] == history.epoch and [d for _, d in look.epochs] == history.history["density"]
    assert [steps for _, steps in look.begun] == [0, 2, 6]  # of the optimizer
    (old, _), (new, _) = look.ended[0], look.begun[1]
    kept, dense = done.resizes[0]["keep"].values()
    np.testing.assert_array_equal(new[0], old[0][..., kept])
    for mine, theirs in zip(new[1:5], old[1:5], strict=True):  # BatchNormalization
        np.testing.assert_array_equal(mine, theirs[kept])
    flat = old[-4].reshape(16, 12, 10)[:, kept][..., dense].reshape(-1, len(dense))
    np.testing.assert_array_equal(new[-4], flat)


@pytest.mark.exhaustive
def test_reinit_starts_with_fresh_weights_in_the_same_widths():
    look, done = Look(), driver(weights="reinit")
    history = done.fit(X, Y, callbacks=[look], **FIT)
    assert [steps for _, steps in look.begun] == [0, 0, 0]
    (old, _), (new, _) = look.ended[0], look.begun[1]
    kept = next(iter(done.resizes[0]["keep"].values()))
    assert len(kept) == new[0].shape[-1] < 12
    assert not np.isin(new[0], old[0]).any()
    np.testing.assert_array_equal(new[1:5], [[1] * len(kept), [0] * len(kept), [0] * len(kept), [1] * len(kept)])
    again = driver(weights="reinit")
    assert again.fit(X, Y, **FIT).history["loss"] == history.history["loss"]  # the seed decides
    other = driver(weights="reinit", seed=1)
    assert other.fit(X, Y, **FIT).history["loss"] != history.history["loss"]


def test_saturated_densities_end_a_stage():
    done = driver(net(keras.optimizers.SGD(0.0)), prune_epochs=None, window=2, min_epochs=2, rounds=2)
    history = done.fit(X, Y, **FIT | {"epochs": 7})
    # at rate 0 only BatchNormalization's statistics move, by less and less; never after epoch 5, two before the end
    stages = history.history["stage"]
    ends = [epoch for epoch in range(1, 7) if stages[epoch] > stages[epoch - 1]]
    expected, since = [], 0
    for epoch in range(1, 6):
        if len(expected) < 2 and epoch - since >= 2:
            rows = [list(d.values()) for d in history.history["densities"][since:epoch][-2:]]
            if (np.ptp(rows, axis=0) < 0.01).all():
                expected, since = [*expected, epoch], epoch
    assert ends == expected and ends


def test_a_resize_prints_a_line(capsys):
    done = driver(prune_epochs=[1])
    history = done.fit(X, Y, **FIT | {"verbose": 2, "epochs": 2})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    old, new = ("-".join(map(str, w.values())) for w in history.history["widths"])
    share = 100 * history.history["macs"][1] / history.history["macs"][0]
    density = history.history["density"][0]
    assert lines == [f"epoch 1: density {density:.2f}, widths {old} -> {new}, MACs 100 % -> {share:.0f} %"]
    driver(prune_epochs=[1]).fit(X, Y, **FIT | {"epochs": 2})
    assert "epoch 1" not in capsys.readouterr().out


def test_nothing_is_resized_any_more_when_it_would_change_nothing(capsys):
    done = driver(smallest=12)
    history = done.fit(X, Y, **FIT | {"verbose": 2})
    assert history.history["stage"] == [0] * 4 and done.training_complexity == 1.0 and not done.resizes
    assert done.stopped == "it would change no layer by a channel"
    assert "epoch 1: no more resizing: it would change no layer by a channel" in capsys.readouterr().out


def test_arrays_come_in_the_order_of_the_epoch(monkeypatch):
    real, epochs = ShuffledArrays.set_epoch, []
    monkeypatch.setattr(ShuffledArrays, "set_epoch", lambda data, epoch: (epochs.append(epoch), real(data, epoch))[0])
    driver(prune_epochs=[1]).fit(X, Y, **FIT | {"epochs": 2})
    assert epochs == [0, 0, 1]  # the first is before any epoch


def test_callbacks_can_stop_the_training():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    history = driver().fit(X, Y, callbacks=[Stop()], **FIT)
    assert history.history["stage"] == [0, 1]


def test_a_second_fit_goes_on_with_the_smaller_model():
    done = driver(prune_epochs=[1])
    done.fit(X, Y, **FIT | {"epochs": 2})
    small = widths(done.model)
    history = done.fit(X, Y, **FIT | {"epochs": 2, "initial_epoch": 0})
    assert list(history.history["widths"][0].values()) == small[:2] and widths(done.model) < small


# ---------------------------------------------------------------------------------------------------------- going back


def worsening(stage):
    """A metric that falls at a stage, given to the rules by a callback, as any may be."""

    class Fall(keras.callbacks.Callback):
        begun = -1

        def on_train_begin(self, logs=None):
            Fall.begun += 1

        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = 0.5 if Fall.begun == stage else 0.9 + 0.01 * epoch

    return Fall()


@pytest.mark.parametrize("kept", [False, True])
def test_a_stage_that_is_worse_is_undone_and_training_goes_on(kept, tmp_path, capsys):
    look, options = Look(), {"tolerance": 0.05, "monitor": "score", "directory": tmp_path / "run" if kept else None}
    done = driver(**options)
    history = done.fit(X, Y, callbacks=[worsening(1), look], **FIT | {"verbose": 2})
    assert history.history["stage"] == [0, 1, 1, 0]
    assert widths(done.model) == [12, 10, 2] and done.resizes == []
    for mine, theirs in zip(look.begun[2][0], look.ended[0][0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert look.begun[2][1] == 2  # the optimizer's steps
    assert done.stopped == "rolled back, since score 0.5000 after 0.9000 is worse by more than 0.05"
    assert "epoch 3: back to the model of stage 0" in capsys.readouterr().out
    assert done.training_complexity == pytest.approx(np.mean(history.history["macs"]) / history.history["macs"][0])


def test_the_last_stage_is_compared_too():
    done = driver(tolerance=0.05, monitor="score")
    history = done.fit(X, Y, callbacks=[worsening(2)], **FIT)
    assert history.history["stage"] == [0, 1, 1, 2]
    assert widths(done.model) == [*history.history["widths"][1].values(), 2] and len(done.resizes) == 1
    assert driver(tolerance=0.5, monitor="score").fit(X, Y, callbacks=[worsening(2)], **FIT).history["stage"][-1] == 2


def test_without_validation_it_says_once_that_no_stage_is_undone(capsys):
    done = driver(tolerance=0.0)
    done.fit(X, Y, **FIT | {"verbose": 2, "validation_split": 0.0})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("No val_accuracy is measured")]
    assert len(lines) == 1 and "monitor= one of accuracy, loss" in lines[0]
    assert len(done.resizes) == 2


# ------------------------------------------------------------------------------------------------------------- kills


class Killed(BaseException):
    pass


class Kill(keras.callbacks.Callback):
    """Dies at the n-th of all events."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def _event(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise Killed

    on_train_begin = on_epoch_begin = on_train_batch_end = on_test_begin = on_epoch_end = on_train_end = _event


def resumed(directory, kills, **options):
    """Trained in as many processes as it takes, so to speak: all that lives on is the directory."""
    for kill in kills:
        with contextlib.suppress(Killed):
            driver(directory=directory, **options).fit(X, Y, callbacks=[kill], **FIT)
            raise AssertionError("it was not killed")
    done = driver(directory=directory, **options)
    return done, done.fit(X, Y, **FIT)


def assert_same(one, other):
    (mine, my_history), (theirs, their_history) = one, other
    assert bits(mine.model) == bits(theirs.model)
    named = {"densities", "widths"}  # Keras names the layers of each process of this test anew
    for name in my_history.history.keys() | their_history.history.keys():
        left, right = my_history.history[name], their_history.history[name]
        if name in named:
            left, right = ([list(d.values()) for d in each] for each in (left, right))
        assert left == right
    assert mine.training_complexity == theirs.training_complexity and mine.stopped == theirs.stopped


EVENTS = 3 * 2 + 4 * 5  # begin and end of three stages; of four epochs: begin, two batches, validation, end
MOMENTS = sorted(random.Random(6).sample(range(EVENTS), 5))


@pytest.mark.parametrize("moment", [*MOMENTS[::3], *also([*MOMENTS[1:3], *MOMENTS[4:]])])
def test_killed_at_any_moment_it_ends_with_the_same_bits(moment, straight, tmp_path):
    assert_same(resumed(tmp_path / "run", [Kill(moment)]), straight)


def test_killed_between_a_resize_and_its_first_epoch(straight, tmp_path):
    begin_of_second_stage = 1 + 5 + 1
    assert_same(resumed(tmp_path / "run", [Kill(begin_of_second_stage), Kill(0), Kill(1)]), straight)


@pytest.mark.parametrize(
    "module, victim, number",
    [(run_directory, "write_model", 3), (run_directory, "write_run", 3), (files, "write", 5)],  # in a resize
)
def test_killed_while_writing(module, victim, number, straight, tmp_path, monkeypatch):
    real, calls = getattr(module, victim), []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(module, victim, dying)
    with pytest.raises(Killed):
        driver(directory=tmp_path / "run").fit(X, Y, **FIT)
    monkeypatch.undo()
    assert_same(resumed(tmp_path / "run", []), straight)


def _fit_with_a_way_back(directory):
    """Two resizes, and back to the model of the first one: its files are replaced 21 times."""
    done = driver(directory=directory, tolerance=0.05, monitor="score")
    return done, done.fit(X, Y, callbacks=[_falls_in_the_last_epoch()], **FIT)


def _dies_at(monkeypatch, number, after):
    """The process dies at the n-th replacement of a file, before or after it."""
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(1)
        if after:
            real(*paths)
        if len(calls) == number:
            raise Killed
        if not after:
            real(*paths)

    monkeypatch.setattr(files.os, "replace", replace)
    return calls


@pytest.fixture(scope="module")
def straight_with_a_way_back(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        calls = _dies_at(patch, None, after=False)
        done = _fit_with_a_way_back(tmp_path_factory.mktemp("straight"))
    assert len(calls) == 21 and done[0].stopped.startswith("rolled back")
    return done


REPLACEMENTS = [(number, after) for number in range(1, 22) for after in (False, True)]
ROLLING_BACK = (17, True)  # run.json knows already that the model is that of the stage before, model.keras is the later


@pytest.mark.parametrize("death", [ROLLING_BACK, *also([death for death in REPLACEMENTS if death != ROLLING_BACK])])
def test_killed_at_any_replacement_of_a_file(death, straight_with_a_way_back, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _dies_at(patch, *death)
        with pytest.raises(Killed):
            _fit_with_a_way_back(tmp_path / "run")
    assert_same(_fit_with_a_way_back(tmp_path / "run"), straight_with_a_way_back)


@pytest.mark.exhaustive
def test_fresh_weights_and_a_way_back_survive_kills(tmp_path, monkeypatch):
    options = {"weights": "reinit", "tolerance": 0.05, "monitor": "score"}

    def fit(directory, *kill):
        done = driver(directory=directory, **options)
        return done, done.fit(X, Y, callbacks=[_falls_in_the_last_epoch(), *kill], **FIT)

    straight = fit(None)
    assert straight[1].history["stage"] == [0, 1, 1, 2] and len(straight[0].resizes) == 1
    for moment in (9, 5, 14):
        with contextlib.suppress(Killed):
            fit(tmp_path / "killed", Kill(moment))
    real = training.Training._roll_back
    monkeypatch.setattr(training.Training, "_roll_back", lambda *args: (real(*args), (_ for _ in ()).throw(Killed)))
    with pytest.raises(Killed):
        fit(tmp_path / "killed")
    monkeypatch.undo()
    assert_same(fit(tmp_path / "killed"), straight)


def _falls_in_the_last_epoch():
    class Fall(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = 0.5 if epoch >= 3 else 0.9

    return Fall()


def test_a_finished_training_is_only_read(straight, tmp_path):
    first = resumed(tmp_path / "run", [])
    assert_same(first, straight)
    before = (tmp_path / "run" / "run.json").read_bytes()
    second = resumed(tmp_path / "run", [])
    assert_same(second, first)
    assert (tmp_path / "run" / "run.json").read_bytes() == before and second[0].seconds == first[0].seconds
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "model.keras", "stage-0.keras", "stage-1.keras"}
    assert widths(keras.saving.load_model(tmp_path / "run" / "model.keras")) == widths(first[0].model)


@pytest.mark.exhaustive
def test_averaged_weights_survive_kills_at_the_end_of_stages(tmp_path):
    def fit(directory, *callbacks):
        done = driver(net(keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)), directory=directory)
        return done, done.fit(X, Y, callbacks=list(callbacks), **FIT)

    straight = fit(tmp_path / "straight")
    for end in (1 + 5, 1 + 2 * 5 + 1 + 1 + 5):  # when the epoch was written, and Keras has not averaged yet
        with contextlib.suppress(Killed):
            fit(tmp_path / "killed", Kill(end))
    assert_same(fit(tmp_path / "killed"), straight)


@on_tensorflow
@pytest.mark.exhaustive
def test_x_may_be_a_function_of_the_epoch(tmp_path):
    import tensorflow as tf

    def data(epoch):
        epochs = tf.data.Dataset.range(epoch, 4)
        order = lambda e: tf.random.experimental.stateless_shuffle(tf.range(96), tf.stack([e, e]))  # noqa: E731
        rows = epochs.flat_map(lambda e: tf.data.Dataset.from_tensor_slices(order(e)))
        return rows.map(lambda i: (tf.gather(X, i), tf.gather(Y, i))).batch(32)

    def fit(directory, *callbacks):
        options = {"epochs": 4, "steps_per_epoch": 3, "verbose": 0, "validation_data": (X, Y), "shuffle": False}
        done = driver(directory=directory, examples=40)
        return done, done.fit(data, callbacks=list(callbacks), **options)

    straight = fit(tmp_path / "straight")
    assert straight[0].measured == "40 examples, inference mode"
    with contextlib.suppress(Killed):
        fit(tmp_path / "killed", Kill(15))
    assert_same(fit(tmp_path / "killed"), straight)
    assert_same(fit(None), straight)


def of_version_0_1(directory, **options):
    """The training that tests/saved_by_0_1/make.py has interrupted in its third epoch, resumed."""
    random = np.random.default_rng(3)
    x, y = random.normal(size=(64, 8)).astype("float32"), random.integers(0, 4, 64)
    keras.utils.set_random_seed(7)
    dense = [layers.Dense(16, activation="relu", name="hidden"), layers.Dense(4, name="head")]
    model = keras.Sequential([keras.Input((8,)), *dense])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    done = tfsparse.ActivationDensity(model, prune_epochs=(1,), smallest=4, directory=directory, **options)
    return done, done.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_data=(x, y))


@on_tensorflow
def test_a_directory_of_version_0_1_is_resumed(tmp_path):
    shutil.copytree(pathlib.Path(__file__).parents[2] / "saved_by_0_1" / "activation_density", tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    with pytest.raises(run_directory.RunError, match=r"kept: 0.0 -> 0.75\n  rounds: 3 -> 1\n  min_epochs: 10 -> 1$"):
        of_version_0_1(tmp_path / "run")
    former = {"rounds": 3, "min_epochs": 10, "min_kept": 0.0}  # the defaults of that version
    done, history = of_version_0_1(tmp_path / "run", **former)
    assert done.entries[:2] == saved["epochs"] and done.resizes[0]["keep"] == saved["resizes"][0]["keep"]
    assert history.epoch == [0, 1, 2, 3] and history.history["stage"] == [0, 1, 1, 1] and widths(done.model) == [8, 4]
    assert done.seconds > saved["positions"][-1]["seconds"]
    _, expected = of_version_0_1(None, **former)
    np.testing.assert_allclose(history.history["loss"], expected.history["loss"], rtol=1e-5)
    again, _ = of_version_0_1(tmp_path / "run", **former)  # finished: read, not trained
    assert again.seconds == done.seconds and bits(again.model) == bits(done.model)


# ------------------------------------------------------------------------------------------------------------ replicas


@on_tensorflow
def test_two_replicas_train_and_load(tmp_path):
    def fit():
        with two_cpu_strategy().scope():
            model = net(run_eagerly=False, jit_compile=False)
        done = driver(model, directory=tmp_path / "run", prune_epochs=[1])
        return done, done.fit(X, Y, **FIT | {"epochs": 2, "validation_split": 0.0})

    done, history = fit()
    assert done.model.distribute_strategy is two_cpu_strategy() and history.history["stage"] == [0, 1]
    for variable in [*done.model.trainable_variables, *done.model.optimizer.variables]:
        one, two = replicas.replica_values(variable)
        np.testing.assert_array_equal(one, two)
    assert_same(fit(), (done, history))


# ------------------------------------------------------------------------------------------------------------ refusals


def test_models_that_cannot_be_trained_are_refused():
    with pytest.raises(ValueError, match=r"is not compiled.*model.compile"):
        tfsparse.ActivationDensity(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    with pytest.raises(TypeError, match="expected a Keras model"):
        tfsparse.ActivationDensity("model")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no layer to resize"):
        tfsparse.ActivationDensity(model).fit(np.ones((4, 3)), np.ones((4, 2)))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epoch": 3}, TypeError, "fit.. has no argument 'epoch'.*Did you mean 'epochs'"),
        ({"epochs": 0}, ValueError, "epochs=0: expected a whole number of at least 1"),
        ({"initial_epoch": 4}, ValueError, "initial_epoch=4 leaves none of epochs=4"),
        ({"epochs": 3}, ValueError, r"prune_epochs=\[1, 3\]: after epoch 3 nothing"),
        ({"callbacks": keras.callbacks.CallbackList([])}, ValueError, "callbacks is a CallbackList"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        driver().fit(X, Y, **FIT | options)


def test_the_directory_of_another_training_is_refused(tmp_path):
    with contextlib.suppress(Killed):
        driver(directory=tmp_path / "run").fit(X, Y, callbacks=[Kill(10)], **FIT)
    with pytest.raises(run_directory.RunError, match="other settings.*\n  window: 5 -> 4\n  epochs: 4 -> 5$"):
        driver(directory=tmp_path / "run", window=4).fit(X, Y, **FIT | {"epochs": 5})
    (tmp_path / "run" / "model.keras").write_bytes(b"something else")
    with pytest.raises(run_directory.RunError, match="not what this run wrote"):
        driver(directory=tmp_path / "run").fit(X, Y, **FIT)


@pytest.mark.parametrize("name", ["model.keras", "stage-0.keras", "examples.npz"])
def test_files_of_others_with_the_names_of_a_training_are_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(run_directory.RunError, match=f"holds {name} and no training"):
        driver(data=X, directory=tmp_path).fit(X, Y, **FIT)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_files_of_others_stay(tmp_path):
    (tmp_path / "stage-best.keras").write_text("mine")
    (tmp_path / ".git").mkdir()
    driver(data=X, directory=tmp_path, prune_epochs=[1]).fit(X, Y, **FIT | {"epochs": 2})
    ours = {"run.json", "model.keras", "stage-0.keras", "examples.npz"}
    assert {path.name for path in tmp_path.iterdir()} == ours | {"stage-best.keras", ".git"}
    assert (tmp_path / "stage-best.keras").read_text() == "mine"


@pytest.mark.skipif(files.fcntl is None, reason="no locks of files on this system")
def test_two_trainings_do_not_share_a_directory(tmp_path):
    with files.locked(tmp_path / "run"), pytest.raises(ValueError, match="Another process is training into"):
        driver(directory=tmp_path / "run").fit(X, Y, **FIT)
    assert not (tmp_path / "run").exists()
