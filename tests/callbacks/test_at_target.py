"""Another callback sees the epochs that end at the target, and no others."""

import copy
import re

import keras
import numpy as np
import pytest
from thoroughly import also

import tfsparse
from tfsparse import AtTarget, OneCycle, Prune, testing
from tfsparse.methods.pll.rules import FixedStart
from tfsparse.reporting.page import parts

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs tf.distribute")
STEPS = 4  # per epoch


def compiled(optimizer="sgd", model=None, **options):
    keras.utils.set_random_seed(0)
    model = model or testing.small_model()
    model.compile(optimizer, LOSS, **options)
    return model


def fit(model, *callbacks, epochs=6, **options):
    x, y = testing.small_data()
    age = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(age=epoch))
    callbacks = [age, *callbacks]  # by this metric an epoch is better than all that follow
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, epochs=epochs, callbacks=callbacks, **options)


def prune():
    """At the target from the third of six epochs on."""
    return Prune(OneCycle(end=0.5), sparsity=0.75)


class Seen(keras.callbacks.Callback):
    """Collects which hooks it was called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def set_params(self, params):
        super().set_params(params)
        self.calls.append("params")

    def on_train_begin(self, logs=None):
        self.calls.append("train begins")

    def on_train_end(self, logs=None):
        self.calls.append("train ends")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"{epoch} begins")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"{epoch} ends")

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"batch {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(batch)


class Ends(keras.callbacks.Callback):
    """Collects the epochs whose end it sees, and the weights then."""

    def __init__(self):
        super().__init__()
        self.epochs, self.weights = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.weights.append(self.model.get_weights())

    @property
    def kernels(self):
        """The first weight of each epoch."""
        return [weights[0] for weights in self.weights]


# ---- which hooks are seen -------------------------------------------------------------------------------------------


def test_epochs_that_do_not_end_at_the_target_are_not_seen():
    """Before and after Prune in the list."""
    seen, also_seen = Seen(), Seen()
    history = fit(compiled(), AtTarget(seen), prune(), AtTarget(also_seen), epochs=4).history
    assert history["at_target"] == [0, 1, 1, 1]
    batches = [call for batch in range(STEPS) for call in (f"batch {batch}", batch)]
    expected = ["1 begins", "1 ends", "2 begins", *batches, "2 ends", "3 begins", *batches, "3 ends"]
    assert seen.calls == also_seen.calls == ["params", "train begins", *expected, "train ends"]


def test_several_steps_per_call_and_loss_scaling():
    seen, optimizer = Ends(), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    history = fit(compiled(optimizer, steps_per_execution=3), AtTarget(seen), prune()).history
    assert history["at_target"] == [0, 0, 1, 1, 1, 1] and seen.epochs == [2, 3, 4, 5]


def test_a_fit_that_begins_at_the_target_is_seen_whole():
    model, seen = compiled(), Seen()
    fit(model, prune())
    fit(model, AtTarget(seen), prune(), epochs=1)
    assert seen.calls[2:5] == ["0 begins", "batch 0", 0]
    fit(model, again := AtTarget(Ends()), epochs=1)  # the optimizer of the model keeps the zeros by itself
    assert again.callback.epochs == [0]


def test_epochs_of_a_new_schedule_are_not_seen_before_its_target():
    model, seen = compiled(), AtTarget(Ends())
    fit(model, prune(), seen, epochs=4)
    fit(model, seen, Prune("polynomial", sparsity=0.9), epochs=3)
    assert seen.callback.epochs == [1, 2, 3, 2]


def test_a_schedule_that_leaves_its_target_is_seen_while_it_is_there():
    seen = Ends()
    history = fit(compiled(), Prune("acdc", 0.75), AtTarget(seen)).history
    assert history["at_target"] == [0, 1, 1, 0, 0, 1] and seen.epochs == [1, 2, 5]


def test_the_callback_has_no_hooks_that_the_other_one_has_not():
    """Keras waits for every step if a callback has hooks for batches."""
    assert not any("batch" in name or "test" in name for name in vars(AtTarget(keras.callbacks.EarlyStopping())))


def test_a_copy_has_a_callback_of_its_own():
    """A tuner copies the callbacks for every trial."""
    first = AtTarget(Seen())
    second = copy.deepcopy(first)
    fit(compiled(), prune(), second)
    assert first.callback.calls == [] and "3 ends" in second.callback.calls


# ---- Keras's callbacks ----------------------------------------------------------------------------------------------


def best_only(path):
    return keras.callbacks.ModelCheckpoint(path, "age", mode="min", save_best_only=True)


def stop(patience):
    return keras.callbacks.EarlyStopping("age", patience=patience, mode="min", restore_best_weights=True)


def plateau():
    return keras.callbacks.ReduceLROnPlateau("age", patience=2, mode="min", factor=0.1)


def check_the_three_callbacks(model, path, *others, first_epoch=0):
    """Each chooses or counts from the third of six epochs on."""
    ends = Ends()
    epochs = fit(model, prune(), ends, *map(AtTarget, (best_only(path), stop(3), plateau())), *others, epochs=6)
    loaded, weights = keras.models.load_model(path), ends.weights[2 - first_epoch]
    for file, restored, third in zip(loaded.get_weights(), model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(file, third)
        np.testing.assert_array_equal(restored, third)
    assert tfsparse.report(loaded).sparsity == tfsparse.report(model).sparsity == 0.75
    assert epochs.epoch == [*range(first_epoch, 6)]  # it stops after the sixth, with a patience of three
    np.testing.assert_allclose(epochs.history["learning_rate"], [0.01] * 3 + [0.001])  # of the epochs that it sees


def test_the_best_epoch_is_one_at_the_target_and_patience_begins_there(tmp_path):
    model = compiled()
    check_the_three_callbacks(model, tmp_path / "best.keras")
    assert tfsparse.report(model).unfinished is None


@ON_TENSORFLOW
def test_the_three_callbacks_on_two_replicas(tmp_path):
    with testing.two_cpu_strategy().scope():
        model = compiled()
    check_the_three_callbacks(model, tmp_path / "best.keras")


def test_early_stopping_ends_a_fit_at_the_target_and_nothing_is_cut():
    model, ends = compiled(), Ends()
    fit(model, AtTarget(stop(1)), prune(), ends)
    assert ends.epochs == [0, 1, 2, 3]
    for restored, third in zip(model.get_weights(), ends.weights[2], strict=True):
        np.testing.assert_array_equal(restored, third)


def test_files_within_an_epoch_are_written_where_it_begins_at_the_target(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3)
    fit(compiled(), prune(), AtTarget(checkpoint), epochs=4)
    files = sorted(path.stem for path in tmp_path.iterdir())
    assert files == ["3-3", "4-2"]
    assert {tfsparse.report(keras.models.load_model(tmp_path / f"{f}.keras")).sparsity for f in files} == {0.75}


def with_averages():
    return compiled(keras.optimizers.SGD(0.1, use_ema=True))


def test_averages_are_swapped_in_and_out_at_the_target_alone():
    """Evaluations and files are of averages, training goes on with the weights; also in a second fit."""
    plain, swapped, swap = with_averages(), with_averages(), AtTarget(keras.callbacks.SwapEMAWeights(True))
    fits = [[False, True, True], [True, True]]
    for is_average in fits[: 1 if keras.backend.backend() == "jax" else 2]:  # a second fit with averages fails in Keras
        raw, averaged = Ends(), Ends()
        options = {"epochs": len(is_average), "validation_data": testing.small_data()}
        one = fit(plain, prune(), raw, **options).history
        other = fit(swapped, prune(), swap, averaged, **options).history
        np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)
        for a, b in ((one["val_loss"], other["val_loss"]), (raw.kernels, averaged.kernels)):
            assert [not np.allclose(*pair, 1e-6) for pair in zip(a, b, strict=True)] == is_average


def test_a_file_that_best_only_has_written_before_the_target_is_told_apart(tmp_path):
    """It is the file of the first of six epochs, which is at step 4 of 24."""
    fit(compiled(), prune(), best_only(tmp_path / "best.keras"))
    model = keras.models.load_model(tmp_path / "best.keras")
    sentence = r"'sequential\w*' is from before the target was reached: its schedule is at step 4 of 24, 0\.\d+ of its "
    report = tfsparse.report(model)
    assert re.match(sentence, report.unfinished)
    assert re.search(sentence, " ".join(str(report).split()))
    assert re.search(sentence, next(parts.of_report(report.as_dict())).note)
    assert any(re.match(sentence, finding) for finding in tfsparse.doctor(model, measure=False).findings)
    with pytest.warns(UserWarning, match=f"^{sentence}.* It is exported as it is"):
        tfsparse.export(model, tmp_path / "out")


# ---- resumed --------------------------------------------------------------------------------------------------------


def interruption(first_epoch):
    def interrupt(epoch, logs):
        if epoch == first_epoch:
            raise KeyboardInterrupt

    return keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)


def test_the_three_callbacks_in_a_resumed_fit(tmp_path):
    backup, path = (lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")), tmp_path / "best.keras"
    with pytest.raises(KeyboardInterrupt):
        check_the_three_callbacks(compiled(), path, backup(), interruption(1))
    assert not path.exists()
    check_the_three_callbacks(compiled(), path, backup(), first_epoch=1)


@pytest.mark.parametrize("stopped_in", [3, *also([1])])
def test_a_resumed_fit_sees_what_the_straight_one_does(stopped_in, tmp_path):
    straight, resumed, backup = Seen(), Seen(), keras.callbacks.BackupAndRestore
    fit(compiled(), prune(), AtTarget(straight), epochs=5)
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), backup(tmp_path), AtTarget(Seen()), prune(), interruption(stopped_in), epochs=5)
    fit(compiled(), AtTarget(resumed), prune(), backup(tmp_path), epochs=5)
    began = 2 if stopped_in == 1 else straight.calls.index("3 begins")
    assert resumed.calls == ["params", "train begins", *straight.calls[began:]]


@pytest.mark.exhaustive
def test_best_only_over_several_fits_of_one_schedule(tmp_path):
    """The second fit trains a model that was loaded from a file of before the target."""
    model = compiled()
    part = Prune(OneCycle(end=0.5), 0.75, total_steps=24)
    fit(model, part, AtTarget(best_only(tmp_path / "first.keras")), epochs=1)
    assert not (tmp_path / "first.keras").exists()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    best = AtTarget(best_only(tmp_path / "best.keras"))
    fit(loaded, best, part, epochs=4, initial_epoch=1)
    assert tfsparse.report(keras.models.load_model(tmp_path / "best.keras")).sparsity == 0.75
    assert best.callback.best == 2


# ---- other methods --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
@pytest.mark.parametrize("method", ["pll", "dst", *also(["gsm"])])
def test_at_the_target_is_what_the_method_says(method):
    """PLL: pruning has ended, here at a quarter of training. GSM and DST: the cut is made."""
    (x, y), seen = testing.small_data(), Ends()
    if method == "pll":
        model, callback = compiled(), tfsparse.PLL((x, y), sparsity=0.75, every=2, start=FixedStart(0.0), end=0.5)
    elif method == "gsm":
        model, callback = compiled(), tfsparse.PruneGSM(compression=4)
    else:
        model, callback = compiled(model=tfsparse.dst(testing.small_model())), tfsparse.DST(sparsity=0.75)
    fit(model, AtTarget(seen), callback, epochs=4)
    assert seen.epochs == ([1, 2, 3] if method == "pll" else [3])


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_without_prune_there_is_no_target():
    model, ends = compiled(), Ends()
    with pytest.raises(ValueError, match=r"Nothing prunes 'sequential.*' to a target, .* on to Ends.*\[Prune\("):
        fit(model, ends, AtTarget(Ends()))
    assert ends.epochs == []
    with pytest.raises(ValueError, match="Nothing prunes 'sequential.*' to a target"):
        model.evaluate(*testing.small_data(), verbose=0, callbacks=[AtTarget(keras.callbacks.SwapEMAWeights())])
    with pytest.raises(ValueError, match="Nothing prunes .* to a target"):
        fit(compiled(model=tfsparse.dst(testing.small_model())), tfsparse.DST(), AtTarget(Ends()))


@pytest.mark.parametrize("bad", [3, Seen, "best.keras", [Seen()]])
def test_what_is_no_callback(bad):
    with pytest.raises(TypeError, match=r"^AtTarget got .*: expected a callback of Keras 3, as in tfsparse.AtTarget\("):
        AtTarget(bad)


@pytest.mark.parametrize(
    "make",
    [
        Prune,
        tfsparse.SparsityLogger,
        keras.callbacks.History,
        keras.callbacks.TensorBoard,
        keras.callbacks.TerminateOnNaN,
        keras.callbacks.Callback,
        lambda: keras.callbacks.CSVLogger("log.csv"),
        lambda: keras.callbacks.BackupAndRestore("backup"),
        lambda: AtTarget(Seen()),
    ],
)
def test_what_has_nothing_to_hold_back(make):
    with pytest.raises(ValueError, match=r"^AtTarget got (\w+), which neither .* callbacks=\[\.\.\., \1\(\.\.\.\)\]"):
        AtTarget(make())
