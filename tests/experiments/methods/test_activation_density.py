"""Runs in which the network shrinks: resumable like all runs, and honest about what is left of it."""

import inspect
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_config import bits, small
from summaries import scalars
from thoroughly import also

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import assembly, experiment
from tfsparse.experiments.config import ConfigError

SECTION = "activation_density={prune_epochs: [1, 3], min_kept: 0, smallest: 2, tolerance: 1}"


def config(*overrides):
    return small("prune=null", "epochs=4", "model.widths=[32, 16]", SECTION, *overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run, its record, and the names of all files in the order of their writing."""
    directory, renamed, replace = tmp_path_factory.mktemp("shrinking") / "straight", [], os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda a, b: (renamed.append(pathlib.Path(b)), replace(a, b)))
        run = experiment.train(config(), directory)
    return directory, run, [str(path.relative_to(directory)) for path in renamed if path.is_relative_to(directory)]


def test_what_is_left_is_what_the_run_says(finished):
    directory, run, _ = finished
    summary, last = run["summary"], run["epochs"][-1]
    model = run_directory.read_model(directory / "model.keras")
    weights = sum(int(np.prod(kernel.shape)) for kernel in model.get_weights() if kernel.ndim == 2)
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [*last["widths"].values(), 10]
    assert summary["parameters"] == model.count_params() < summary["dense_parameters"] == 64 * 32 + 32 + 33 * 16 + 170
    assert summary["macs"] == weights < summary["dense_macs"] == 64 * 32 + 32 * 16 + 160
    assert summary["resizes"] == [1, 3] and (summary["asked_sparsity"], summary["sparsity"]) == (None, 0)
    assert summary["accuracy"] == pytest.approx(last["val_accuracy"]) and summary["accuracy"] > 0.2
    assert summary["best_accuracy"] == max(epoch["val_accuracy"] for epoch in run["epochs"] if epoch["stage"] == 2)
    assert summary["method"] == "activation density (prune_epochs=(1, 3), smallest=2, min_kept=0.0, tolerance=1.0)"


def test_tensorboard_has_the_figures_of_the_whole_network(finished):
    directory, run, _ = finished
    found = scalars(directory / "tensorboard" / "train")
    for entry in run["epochs"]:
        for key in ("density", "macs", "parameters"):
            assert found[f"epoch_{key}", entry["epoch"] - 1] == pytest.approx(entry[key])


def test_what_is_served_is_the_small_model(finished):
    directory, run, _ = finished
    model = run_directory.read_model(directory / "model.keras")
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    served = tf.saved_model.load(str(directory / "savedmodel"))
    np.testing.assert_allclose(served.serve(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    assert sum(row["size"] for row in run["report"]["rows"]) == run["summary"]["macs"]


def test_complexity_is_that_of_the_epochs(finished):
    _, run, _ = finished
    macs = [epoch["macs"] for epoch in run["epochs"]]
    assert [epoch["macs_share"] for epoch in run["epochs"]] == [count / macs[0] for count in macs]
    assert macs[0] == run["summary"]["dense_macs"] > macs[1] == macs[2] > macs[3]
    assert run["summary"]["training_complexity"] == pytest.approx(sum(macs) / (4 * macs[0]))
    assert run["summary"]["seconds"] == run["seconds"][0] > 0


def test_a_run_leaves_its_files_and_the_drivers_apart(finished):
    directory, _, _ = finished
    names = {"run.json", "model.keras", "savedmodel", "tensorboard", "training.png", "activation_density"}
    assert {path.name for path in directory.iterdir()} == names


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("share", [0.04, *also([0.95, 0.0, 0.12, 0.4, 0.7, 0.85, 1.0])])
def test_killed_at_a_rename_and_resumed_is_the_straight_run(finished, tmp_path, monkeypatch, share):
    straight, _, renamed = finished
    left, replace = [round(share * (len(renamed) - 1))], os.replace

    def kill(source, target):
        if left[0] == 0:
            raise Killed
        left[0] -= pathlib.Path(target).is_relative_to(directory)
        replace(source, target)

    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            experiment.train(config(), directory)
    kept = epochs_kept(directory / "activation_density")
    assert epochs_of_a_resume(directory) == list(range(kept, 4))
    assert bits(directory) == bits(straight)
    assert run_directory.read(directory)["summary"]["resizes"] == [1, 3]


def test_killed_in_the_middle_of_a_stage_and_resumed_is_the_straight_run(finished, tmp_path):
    def kill(epoch, logs=None):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        experiment.train(config(), tmp_path / "run", callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=kill)])
    assert epochs_of_a_resume(tmp_path / "run") == [2, 3]
    assert bits(tmp_path / "run") == bits(finished[0])


def epochs_of_a_resume(directory):
    trained = []
    counting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: trained.append(epoch))
    experiment.train(config(), directory, resume=(directory / "run.json").exists(), callbacks=[counting])
    return trained


def epochs_kept(directory):
    """How many whole epochs lie behind the model that is there."""
    if not (directory / "model.keras").exists():
        return 0
    run = run_directory.read(directory)
    return run["positions"][run_directory.num_checkpoints(directory, run) - 1]["epochs"]


@pytest.mark.exhaustive
def test_overwriting_begins_anew(tmp_path):
    directory, short = tmp_path / "run", ("epochs=2", "activation_density.prune_epochs=[1]")
    experiment.train(config(*short), directory)
    (directory / "activation_density" / "mine").touch()
    experiment.train(config(*short, "seed=1"), directory, overwrite=True)
    names = {path.name for path in (directory / "activation_density").iterdir()}
    assert names == {"run.json", "model.keras", "stage-0.keras", "examples.npz", "mine"}
    assert run_directory.read(directory)["summary"]["seed"] == 1


def test_the_accuracy_after_a_way_back_is_that_of_the_model(tmp_path):
    directory = tmp_path / "run"
    back = ("epochs=3", "activation_density.prune_epochs=[2]", "activation_density.tolerance=0.0")
    broken = ("activation_density.smallest=1", "activation_density.weights=reinit")
    run = experiment.train(config(*back, *broken), directory)
    assert run["summary"]["stopped"].startswith("rolled back")
    assert run["summary"]["macs"] == run["summary"]["dense_macs"]
    assert run["summary"]["accuracy"] == pytest.approx(run["epochs"][1]["val_accuracy"])
    assert run["summary"]["accuracy"] != run["epochs"][2]["val_accuracy"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune.sparsity=0.5"], "activation_density and prune both decide.*--set activation_density=null"),
        (["activation_density.prune_epochs=[4]"], r"prune_epochs=\[4\]: after epoch 4 nothing can be resized"),
        (["activation_density.prune_epochs=[3, 1]"], "expected rising numbers"),
        (["activation_density={min_epochs: 9, max_epochs: 5}"], "max_epochs=5: expected a whole number of at least 9"),
        (["model=logistic"], "logistic"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        experiment.train(config(*overrides), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_none_is_named():
    with pytest.raises(ConfigError, match="did you mean activation_density.smallest"):
        config("activation_density.smalest=3")


def test_the_section_has_the_arguments_of_the_driver_and_their_defaults():
    arguments = {n: p.default for n, p in inspect.signature(tfsparse.ActivationDensity).parameters.items()}
    for_scripts = {"model", "monitor", "data", "directory", "seed"}
    section = small("prune=null", "activation_density={}").activation_density
    assert section.model_dump() == {name: value for name, value in arguments.items() if name not in for_scripts}


def test_the_label_names_options_that_are_not_the_default():
    assert assembly.label(small("prune=null", "activation_density={rounds: 2}")) == "activation density (rounds=2)"
