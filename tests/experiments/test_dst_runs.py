"""Runs that train thresholds: like all runs resumable, and honest about what nobody asked for."""

import functools

import keras
import numpy as np
import pytest
from small_config import bits, small

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import experiment

FIXED = "dst={alpha: 0.01}"
TARGET = "dst={sparsity: 0.75, alpha: 0.01, skip_last: true}"


def config(section):
    return small("prune=null", "epochs=4", "optimizer={name: sgd, learning_rate: 0.1, momentum: 0.9}", section)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The finished run of a section, trained once: its directory and its record."""

    @functools.cache
    def train(section):
        directory = tmp_path_factory.mktemp("dst") / "straight"
        return directory, experiment.train(config(section), directory)

    return train


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def killing(epoch, batch):
    def kill(now, logs=None):
        if killer.model.optimizer.iterations == 11 * epoch + batch:
            raise Killed

    killer = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
    return killer


@pytest.mark.parametrize(
    ("section", "epoch", "batch"),
    [
        (TARGET, 3, 11),
        pytest.param(FIXED, 2, 1, marks=pytest.mark.exhaustive),
        pytest.param(TARGET, 0, 3, marks=pytest.mark.exhaustive),
    ],
)
def test_broken_off_and_resumed_is_the_straight_run(finished, tmp_path, section, epoch, batch):
    directory = tmp_path / "run"
    with pytest.raises(Killed):
        experiment.train(config(section), directory, callbacks=[killing(epoch, batch)])
    assert len(run_directory.read(directory)["epochs"]) == epoch
    experiment.train(config(section), directory, resume=True)
    assert bits(directory) == bits(finished(section)[0])


def kernels(model):
    plain = tfsparse.finalize(model)
    return {layer.name: keras.ops.convert_to_numpy(layer.kernel) for layer in plain.layers if layer.weights}


def zeros(arrays):
    return sum(int(np.sum(array == 0)) for array in arrays) / sum(array.size for array in arrays)


@pytest.mark.parametrize(("section", "counted"), [(FIXED, ("dense1", "logits")), (TARGET, ("dense1",))])
def test_the_sparsity_of_a_run_is_that_of_its_thresholded_kernels(finished, section, counted):
    directory, run = finished(section)
    there = kernels(run_directory.read_model(directory / "model.keras"))
    sparsity = zeros([there[name] for name in counted])
    assert 0.05 < sparsity < 1
    assert run["summary"]["sparsity"] == pytest.approx(sparsity, abs=1e-9)
    assert run["epochs"][-1]["sparsity"] == pytest.approx(sparsity, abs=1e-6)
    assert run["summary"]["accuracy"] == run["epochs"][-1]["val_accuracy"] > 0.2


def test_the_target_is_met_to_the_weight_and_the_cut_is_measured(finished):
    _, run = finished(TARGET)
    summary, last = run["summary"], run["epochs"][-1]
    assert (summary["asked_sparsity"], summary["sparsity"]) == (0.75, 0.75)
    assert summary["method"] == "dst (target, alpha=0.01), skip_last"
    assert summary["accuracy_before_cut"] == last["uncut_accuracy"]
    assert summary["sparsity_before_cut"] == last["uncut_sparsity"] != 0.75
    assert summary["accuracy"] == pytest.approx(last["cut_accuracy"])


def test_a_fixed_alpha_asks_for_nothing_and_cuts_nothing(finished):
    _, run = finished(FIXED)
    assert run["summary"]["asked_sparsity"] is None and run["summary"]["method"] == "dst (alpha=0.01)"
    assert not {"accuracy_before_cut", "sparsity_before_cut"} & run["summary"].keys()
    assert [epoch["alpha"] for epoch in run["epochs"]] == pytest.approx([0.01] * 4)
    sparsities = [epoch["sparsity"] for epoch in run["epochs"]]
    assert sparsities == sorted(sparsities) and sparsities[0] < sparsities[-1]


def record(*epochs):
    entries = [{"epoch": i, "val_accuracy": a, "sparsity": s} for i, (a, s) in enumerate(epochs)]
    return {"seconds": [], "epochs": entries}


def test_the_best_epoch_says_how_sparse_it_was():
    run = record((0.99, 0.1), (0.98, 0.9), (0.97, 0.95))
    free, asked = (experiment._summary(config(s), run, {"sparsity": 0.95}) for s in (FIXED, "dst.sparsity=0.95"))
    keys = ("accuracy", "best_accuracy", "best_epoch", "best_sparsity")
    assert [free[key] for key in keys] == [0.97, 0.99, 0, 0.1]
    assert [asked[key] for key in keys] == [0.97, 0.97, 2, 0.95]


@pytest.mark.parametrize("section", [FIXED, TARGET], ids=["fixed", "target"])
def test_what_is_served_is_sparse_and_predicts_what_the_model_does(finished, section):
    import tensorflow as tf

    directory, _ = finished(section)
    model = run_directory.read_model(directory / "model.keras")
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    served = tf.saved_model.load(str(directory / "savedmodel"))
    np.testing.assert_allclose(served.serve(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    in_the_file = [v.numpy() for v in served.variables if len(v.shape) == 2]
    for array, kernel in zip(in_the_file, kernels(model).values(), strict=True):
        np.testing.assert_array_equal(array, kernel)
    rows = tfsparse.report(model).rows
    assert [row.kept for row in rows] == [np.count_nonzero(array) for array in in_the_file]
