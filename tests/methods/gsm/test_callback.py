"""PruneGSM: GSM during training, one global cut at its end, and what the cut costs."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import GSM, PruneGSM, testing
from tfsparse.optimizers import compiled_model

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X, Y = testing.small_data()


def compiled(optimizer):
    model = testing.small_model()
    model.compile(optimizer, LOSS, metrics=["accuracy"])
    return model


def fit(model, *callbacks, epochs=2, quiet=True):
    with warnings.catch_warnings() if quiet else contextlib.nullcontext():
        if quiet:
            warnings.filterwarnings("ignore", message="The cut will not be lossless")
        return model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def kernels(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables if len(v.shape) > 1]


@pytest.mark.exhaustive
def test_is_gsm_and_one_global_cut():
    """Equal to GSM in the compile, and the largest quarter of all kernels by NumPy."""
    plain = compiled(GSM(0.05, momentum=0.9, weight_decay=1e-3, compression=4))
    fit(plain)
    model = compiled(keras.optimizers.SGD(0.05))
    fit(model, PruneGSM(4, momentum=0.9, weight_decay=1e-3))
    flat = np.concatenate([np.abs(k).ravel() for k in kernels(plain)])
    threshold = np.sort(flat)[round(0.75 * flat.size)]
    for mine, theirs in zip(kernels(model), kernels(plain), strict=True):
        np.testing.assert_allclose(mine, np.where(np.abs(theirs) >= threshold, theirs, 0), atol=1e-6)
    assert isinstance(compiled_model.sparse_optimizer(model).inner_optimizer, GSM)


class Look(keras.callbacks.Callback):
    """Sparsity after every batch, and what the checkpoint of the last epoch would hold."""

    def __init__(self):
        super().__init__()
        self.sparsities = []

    def on_train_batch_end(self, batch, logs=None):
        self.sparsities.append(np.mean([np.mean(k == 0) for k in kernels(self.model)]))


def test_the_cut_comes_after_the_last_step_and_is_measured():
    model, look = compiled(keras.optimizers.SGD(0.05)), Look()
    callback = PruneGSM(20, data=(X, Y))
    history = fit(model, callback, look).history
    assert max(look.sparsities[:-1]) == 0 and look.sparsities[-1] > 0.5
    after = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert history["cut_loss"] == [pytest.approx(after["loss"], rel=1e-5)]
    assert history["uncut_loss"][0] != history["cut_loss"][0]
    dense = compiled(GSM(0.05, compression=20))
    fit(dense)
    expected = dense.evaluate(X, Y, verbose=0, return_dict=True)
    assert history["uncut_loss"] == [pytest.approx(expected["loss"], rel=1e-4)]
    assert history["uncut_accuracy"] == [pytest.approx(expected["accuracy"])]


@pytest.mark.exhaustive
def test_a_dataset_measures_too_and_nothing_is_measured_without():
    batches = [(X[:32], Y[:32]), (X[32:64], Y[32:64])]

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    assert "uncut_accuracy" in fit(compiled("sgd"), PruneGSM(4, data=Data())).history
    assert not any(key.startswith("uncut") for key in fit(compiled("sgd"), PruneGSM(4)).history)


def test_warns_before_the_first_step_and_says_what_would_do():
    model = compiled(keras.optimizers.SGD(0.05))
    with pytest.warns(UserWarning, match=r"not be lossless.*Write momentum=0\.\d{4}, or train .* as long") as caught:
        fit(model, PruneGSM(4, momentum=0.9, weight_decay=0.1), quiet=False)
    (message,) = [str(w.message) for w in caught if "lossless" in str(w.message)]
    momentum = float(message.split("momentum=")[1][:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(compiled(keras.optimizers.SGD(0.05)), PruneGSM(4, momentum=momentum, weight_decay=0.1), quiet=False)


def test_stopping_early_still_cuts():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = compiled("sgd")
    fit(model, PruneGSM(4), Stop(), epochs=5)
    assert tfsparse.report(model).sparsity == pytest.approx(0.75, abs=1e-3)


def test_further_training_keeps_the_masks():
    model = compiled("sgd")
    fit(model, PruneGSM(4))
    before = kernels(model)
    fit(model, PruneGSM(4))
    for old, new in zip(before, kernels(model), strict=True):
        np.testing.assert_array_equal(old == 0, new == 0)


def test_interrupted_and_resumed_is_the_straight_run(tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("crash")

    def callbacks():
        return PruneGSM(4), keras.callbacks.BackupAndRestore(tmp_path / "backup")

    straight = compiled(keras.optimizers.SGD(0.05))
    fit(straight, PruneGSM(4), epochs=3)
    with pytest.raises(RuntimeError, match="crash"):
        fit(compiled(keras.optimizers.SGD(0.05)), *callbacks(), Crash(), epochs=3)
    resumed = compiled(keras.optimizers.SGD(0.05))
    fit(resumed, *callbacks(), epochs=3)
    for mine, theirs in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_two_replicas_are_one_device():
    with testing.two_cpu_strategy().scope():
        mirrored = compiled(keras.optimizers.SGD(0.05))
    fit(mirrored, PruneGSM(4, data=(X, Y)))
    alone = compiled(keras.optimizers.SGD(0.05))
    fit(alone, PruneGSM(4))
    for mine, theirs in zip(mirrored.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_errors_say_what_to_write():
    for optimizer, callback, message in (
        ("adam", PruneGSM(4), "compiled with Adam: expected SGD and a compression"),
        ("sgd", PruneGSM(), r"PruneGSM\(compression=None\) got a model compiled with SGD"),
        (GSM(compression=5), PruneGSM(4), r"compiled with GSM\(compression=5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(compiled(optimizer), callback)
    with pytest.raises(ValueError, match="compression=0.5: expected entries"):
        PruneGSM(0.5)
