"""Another callback sees the epochs of a wrapped model that end at the target, and no others."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from thoroughly import also

import tfsparse
from tfsparse import tfmot

stock, callbacks = models.stock, tf_keras.callbacks
COUNT = 1430  # zeros of all layers together at a sparsity of 0.8


def wrapped(schedule=None, **options):
    return models.compiled(tfmot.prune_low_magnitude(models.small(), schedule, **options))


def fit(model, *others, epochs=6):
    age = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(age=epoch))
    return models.fit(model, age, *others, epochs=epochs)  # by this metric an epoch is better than all that follow


def prune(**options):
    """At the target from the third of six epochs on."""
    return tfmot.Prune(tfsparse.OneCycle(end=0.5), sparsity=0.8, **options)


def num_zeros(model):
    return sum(int(np.sum(kernel == 0)) for kernel in models.kernels(model))


class Seen(callbacks.Callback):
    """Collects which hooks it was called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begins")

    def on_train_end(self, logs=None):
        self.calls.append("train ends")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"{epoch} begins")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"{epoch} ends")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(batch)

    @property
    def epochs(self):
        return [int(call.split()[0]) for call in self.calls if str(call).endswith(" ends") and call != "train ends"]


def test_epochs_that_do_not_end_at_the_target_are_not_seen():
    """Before and after Prune in the list, also in the first epoch, where Prune replaces a schedule that has ended."""
    model, seen, also_seen = wrapped(), Seen(), Seen()
    fit(model, tfmot.Prune("constant", sparsity=0.5), epochs=1)
    history = fit(model, tfmot.AtTarget(seen), prune(), tfmot.AtTarget(also_seen), epochs=4).history
    assert history["at_target"] == [0, 1, 1, 1]
    expected = ["1 begins", "1 ends", "2 begins", *range(8), "2 ends", "3 begins", *range(8), "3 ends"]
    assert seen.calls == also_seen.calls == ["train begins", *expected, "train ends"]


def best_only(path):
    return callbacks.ModelCheckpoint(str(path), "age", mode="min", save_best_only=True)


def stop(patience):
    return callbacks.EarlyStopping("age", patience=patience, mode="min", restore_best_weights=True)


def plateau():
    return callbacks.ReduceLROnPlateau("age", patience=2, mode="min", factor=0.1)


def check_the_three_callbacks(model, path, *others, first_epoch=0):
    """Each chooses or counts from the third of six epochs on."""
    epochs = []
    collect = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(model.get_weights()))
    wrapped_callbacks = map(tfmot.AtTarget, (best_only(path), stop(3), plateau()))
    history = fit(model, prune(), collect, *wrapped_callbacks, *others)
    of_third = dict(zip((w.name for w in model.weights), epochs[2 - first_epoch], strict=True))
    loaded = tf_keras.models.load_model(path, compile=False)
    for weight, file in zip(model.weights, loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(file, of_third[weight.name])
        np.testing.assert_array_equal(weight.numpy(), of_third[weight.name])
    assert num_zeros(model) == COUNT and len(epochs) == 6 - first_epoch  # stopped by patience
    np.testing.assert_allclose(history.history["lr"], [0.05] * 3 + [0.005])  # of the epochs that it sees


def test_the_best_epoch_is_one_at_the_target_and_patience_begins_there(tmp_path):
    check_the_three_callbacks(wrapped(), tmp_path / "best.keras")


def test_the_three_callbacks_on_two_replicas(tmp_path):
    from tfsparse.testing import two_cpu_strategy

    with two_cpu_strategy().scope():
        model = wrapped()
    check_the_three_callbacks(model, tmp_path / "best.keras")


def test_early_stopping_ends_a_fit_at_the_target_and_nothing_is_cut():
    model, seen = wrapped(scope="layer"), Seen()
    fit(model, tfmot.AtTarget(stop(1)), prune(), seen)
    assert seen.epochs == [0, 1, 2, 3] and num_zeros(model) == COUNT


def interruption(first_epoch):
    def interrupt(epoch, logs):
        if epoch == first_epoch:
            raise KeyboardInterrupt

    return callbacks.LambdaCallback(on_epoch_begin=interrupt)


def test_the_three_callbacks_in_a_resumed_fit(tmp_path):
    backup, path = str(tmp_path / "backup"), tmp_path / "best.keras"
    with pytest.raises(KeyboardInterrupt):
        check_the_three_callbacks(wrapped(), path, callbacks.BackupAndRestore(backup), interruption(1))
    assert not path.exists()
    check_the_three_callbacks(wrapped(), path, callbacks.BackupAndRestore(backup), first_epoch=1)


@pytest.mark.parametrize("stopped_in", [3, *also([1])])
def test_a_resumed_fit_sees_what_the_straight_one_does(stopped_in, tmp_path):
    straight, resumed = Seen(), Seen()
    fit(wrapped(), prune(), tfmot.AtTarget(straight), epochs=5)
    with pytest.raises(KeyboardInterrupt):
        others = tfmot.AtTarget(Seen()), prune(), interruption(stopped_in)
        fit(wrapped(), callbacks.BackupAndRestore(str(tmp_path)), *others, epochs=5)
    fit(wrapped(), tfmot.AtTarget(resumed), prune(), callbacks.BackupAndRestore(str(tmp_path)), epochs=5)
    began = 1 if stopped_in == 1 else straight.calls.index("3 begins")
    assert resumed.calls == ["train begins", *straight.calls[began:]]


@pytest.mark.parametrize(
    ("schedule", "epochs", "others"),
    [
        (lambda: stock.ConstantSparsity(0.8, 12, frequency=1), [1, 2], list),
        (lambda: tfmot.DSD(0.8, end_step=20), [2], lambda: [tfmot.Prune()]),
        pytest.param(lambda: stock.PolynomialDecay(0, 0.8, 0, 20), [2], list, marks=pytest.mark.exhaustive),
    ],
    ids=["Constant", "DSD and Prune", "Polynomial"],
)
def test_the_wrappers_own_schedules(schedule, epochs, others):
    seen = Seen()
    fit(wrapped(schedule()), tfmot.AtTarget(seen), *others(), epochs=3)
    assert seen.epochs == epochs


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
@pytest.mark.parametrize("method", ["pll", "dst", *also(["gsm"])])
def test_at_the_target_is_what_the_method_says(method):
    """PLL: pruning has ended. GSM and DST: the cut is made."""
    seen = Seen()
    if method == "pll":
        start = tfsparse.methods.pll.rules.FixedStart(0.0)
        model, callback = wrapped(), tfmot.PLL(models.data(), sparsity=0.8, every=4, start=start, end=0.5)
    elif method == "gsm":
        model = models.compiled(tfmot.prune_low_magnitude(models.small()), tfmot.GSM(compression=5))
        callback = tfmot.PruneGSM()
    else:
        model, callback = models.compiled(tfmot.dst(models.small())), tfmot.DST(sparsity=0.8)
    fit(model, tfmot.AtTarget(seen), callback, epochs=4)
    assert seen.epochs == ([1, 2, 3] if method == "pll" else [3])


class WithoutEnd(stock.PruningSchedule):
    def __init__(self):
        pass

    def __call__(self, step):
        return tf.constant(True), tf.constant(0.5)

    def get_config(self):
        return {}


def test_without_a_target():
    for model, others in ((models.compiled(models.small()), []), (wrapped(WithoutEnd()), [tfmot.Prune()])):
        before = models.kernels(model)
        with pytest.raises(ValueError, match=r"Nothing prunes 'model.*' to a target, .* on to Seen.*\[Prune\("):
            fit(model, *others, tfmot.AtTarget(Seen()))
        assert all(np.array_equal(a, b) for a, b in zip(before, models.kernels(model), strict=True))


@pytest.mark.parametrize("bad", [3, Seen, keras.callbacks.EarlyStopping()], ids=["number", "class", "of Keras 3"])
def test_what_is_no_callback_of_tf_keras(bad):
    with pytest.raises(TypeError, match="expected a callback of tf_keras, .* those of Keras 3 write tfsparse.AtTarget"):
        tfmot.AtTarget(bad)


@pytest.mark.parametrize(
    "make", [tfmot.Prune, stock.UpdatePruningStep, callbacks.History, lambda: callbacks.BackupAndRestore("backup")]
)
def test_what_has_nothing_to_hold_back(make):
    with pytest.raises(ValueError, match=r"^AtTarget got (\w+), which neither .* callbacks=\[\.\.\., \1\(\.\.\.\)\]"):
        tfmot.AtTarget(make())
