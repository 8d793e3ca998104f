"""Runs: what is written, what is refused, and that an interrupted run ends with the bits of an uninterrupted one."""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_config import bits, small
from summaries import scalars
from thoroughly import also

from tfsparse import ACDC
from tfsparse.backend import run_directory
from tfsparse.experiments import config, experiment

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "straight"
    return directory, experiment.train(small(), directory)


def test_a_run_leaves_its_files_and_nothing_else(finished):
    directory, _ = finished
    names = {"run.json", "model.keras", "savedmodel", "tensorboard", "training.png"}
    assert {path.name for path in directory.iterdir()} == names
    assert (directory / "savedmodel" / "saved_model.pb").is_file()
    assert list((directory / "tensorboard").rglob("events*"))


def test_run_json_says_what_was_run_and_what_came_out(finished):
    directory, run = finished
    assert json.loads((directory / "run.json").read_text()) == run
    assert config.validate(run["config"]) == small()
    assert run["status"] == "finished"
    assert [entry["epoch"] for entry in run["epochs"]] == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "sparsity", "mask_change_rate"} <= run["epochs"][0].keys()
    shares = [entry["macs_share"] for entry in run["epochs"]]
    assert shares[-1] == pytest.approx(1 - run["report"]["sparsity"])  # of dense layers
    first, second = [entry["mean_macs_share"] for entry in run["epochs"]]
    assert 1 > first > shares[0] > second > shares[1]  # ever sparser
    assert run["summary"]["training_complexity"] == pytest.approx((first + second) / 2)
    assert {"python", "tfsparse", "keras", "tensorflow", "numpy"} <= run["environment"]["versions"].keys()
    assert run["environment"]["devices"] and run["environment"]["backend"] in ("tensorflow", "jax")


def test_tensorboard_has_all_figures_of_all_epochs(finished):
    directory, run = finished
    found = {name: scalars(directory / "tensorboard" / name) for name in ("train", "validation")}
    for entry in run["epochs"]:
        for key, value in entry.items():
            if key != "epoch":
                folder = "validation" if key.startswith("val_") else "train"
                tag = f"epoch_{key.removeprefix('val_')}"
                assert found[folder][tag, entry["epoch"] - 1] == pytest.approx(value)


def test_phases_shorter_than_an_epoch_are_part_of_the_training_complexity(tmp_path):
    """AC/DC is sparse at the end of nearly every one of these epochs, and dense half of the time."""
    run = experiment.train(small("epochs=10", "prune.schedule=acdc"), tmp_path / "run")
    at_the_ends = np.mean([entry["macs_share"] for entry in run["epochs"]])
    dense = np.mean([1 - ACDC()(step / 120) for step in range(1, 121)])
    upper = dense + 0.25 * (1 - dense)  # less where weights that return stay zero: pixels that are always black
    assert at_the_ends < 0.4 < 0.5 < run["summary"]["training_complexity"] < upper


def test_summary_is_what_the_file_holds(finished):
    directory, run = finished
    model = run_directory.read_model(directory / "model.keras")
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
    assert zeros == sum(round(0.75 * kernel.size) for kernel in kernels)
    assert run["summary"]["sparsity"] == pytest.approx(zeros / sum(k.size for k in kernels), abs=1e-9)
    assert run["summary"]["asked_sparsity"] == 0.75
    assert run["summary"]["accuracy"] == run["epochs"][-1]["val_accuracy"] > 0.2
    assert run["summary"]["seconds"] == pytest.approx(sum(run["seconds"]), abs=0.01)


def test_best_accuracy_is_taken_where_the_model_was_as_sparse():
    epochs = [(0.99, 0.1), (0.90, 0.9), (0.95, 0.9), (0.94, 0.9)]
    run = {"epochs": [{"epoch": i, "val_accuracy": a, "sparsity": s} for i, (a, s) in enumerate(epochs)], "seconds": []}
    summary = experiment._summary(small(), run, {"sparsity": 0.9})
    assert (summary["accuracy"], summary["best_accuracy"], summary["best_epoch"]) == (0.94, 0.95, 2)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(finished, tmp_path):
    experiment.train(small(), tmp_path / "again")
    experiment.train(small("seed=1"), tmp_path / "other")
    assert bits(tmp_path / "again") == bits(finished[0])
    assert bits(tmp_path / "other")[0] != bits(finished[0])[0]


@pytest.mark.exhaustive
def test_a_ticket_starts_from_the_first_weights_of_its_seed(finished, tmp_path):
    import keras

    class First(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.weights = self.model.get_weights()

    base, ticket = First(), First()
    experiment.train(small("prune=null", "epochs=1"), tmp_path / "base", callbacks=[base])
    mask = finished[0] / "model.keras"
    run = experiment.train(small("prune=null", f"start.mask={mask}"), tmp_path / "ticket", callbacks=[ticket])
    pruned = run_directory.read_model(mask).get_weights()
    for mine, theirs, zeros in zip(ticket.weights, base.weights, pruned, strict=True):
        np.testing.assert_array_equal(mine, np.where(zeros != 0, theirs, 0) if mine.ndim > 1 else theirs)
    assert run["summary"]["method"] == "winning ticket"
    assert run["summary"]["sparsity"] == run["summary"]["asked_sparsity"] == finished[1]["summary"]["sparsity"]


def test_dense_runs_have_no_sparsity(tmp_path):
    run = experiment.train(small("prune=null", "epochs=1", "optimizer.momentum=one_cycle"), tmp_path / "dense")
    assert run["summary"]["method"] == "dense"
    assert "sparsity" not in run["epochs"][0]
    assert run["summary"]["asked_sparsity"] == run["summary"]["sparsity"] == 0.0


@pytest.mark.real_data
def test_mnist_is_exactly_as_sparse_as_asked(tmp_path):
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", ROOT.parent / "shared" / "tensorflow_datasets"))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"MNIST IS NOT PREPARED in {folder}: set TFDS_DATA_DIR to a folder that holds mnist/")
    overrides = ["epochs=1", "data.batch_size=256", f"data.dir={folder}", "prune.pruner.scope=global"]
    mnist = config.load(ROOT / "configs" / "mnist_lenet300_one_cycle.yaml", overrides)
    run = experiment.train(mnist, tmp_path / "mnist")
    rows = run["report"]["rows"]
    assert sum(row["kept"] for row in rows) == sum(row["size"] for row in rows) - round(0.9 * 266_200)
    assert run["summary"]["accuracy"] > 0.93


# ------------------------------------------------------------------------------------------------------ interruptions


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("rename", [0, 10, *also([1, 2, 3, 4, 5, 6, 7, 8, 9])])
def test_killed_at_any_rename_and_resumed_is_the_straight_run(finished, tmp_path, monkeypatch, rename):
    """Every write ends in a rename; `test_the_renames_above_are_all` lists them."""
    left, replace = [rename], os.replace

    def kill(source, target):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        replace(source, target)

    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            experiment.train(small(), directory)
    if (directory / "model.keras").exists():
        assert_masked(run_directory.read_model(directory / "model.keras"))
    begun = (directory / "run.json").exists()
    experiment.train(small(), directory, resume=begun, overwrite=not begun)
    assert bits(directory) == bits(finished[0])


def test_the_renames_above_are_all(finished, tmp_path, monkeypatch):
    renamed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (renamed.append(pathlib.Path(b).name), replace(a, b)))
    experiment.train(small(), tmp_path / "run")
    saves, exports = ["run.json", "model.keras"] * 3, ["new", "savedmodel"]
    assert renamed == ["run.json", *saves, *exports, "training.png", "run.json"]


def assert_masked(model):
    for variable in model.optimizer.pruned_variables if model.optimizer.built else []:
        assert np.all(variable.numpy()[model.optimizer.mask(variable).numpy() == 0] == 0)


def test_a_wrong_path_of_initial_weights_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(run_directory.RunError, match="is not a file"):
        experiment.train(small("start.weights=nowhere.keras"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def sets(*overrides):
    overrides = ["epochs=24", "data.batch_size=32", "model={name: mlp, widths: [64]}", *overrides]
    return [part for override in overrides for part in ("--set", override)]


def command(directory, *arguments):
    # A shell that starts tests in the background has them ignore SIGINT, and their children with them.
    program = "import signal, tfsparse_command as c; signal.signal(2, signal.default_int_handler); c.main()"
    line = [sys.executable, "-c", program, "train", "--out", str(directory)]
    return [*line, *(arguments or sets())]


@pytest.fixture
def start():
    """Start `tfsparse train`; whatever is still running when the test ends is killed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    with contextlib.ExitStack() as stack:

        def begin(directory, *arguments):
            process = stack.enter_context(subprocess.Popen(command(directory, *arguments), env=environment, **pipes))
            stack.callback(process.kill)
            return process

        yield begin


def wait_for_epochs(process, directory, count):
    """Wait until the run has saved `count` models, then for a random part of an epoch."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        path = directory / "run.json"
        if path.exists() and len(json.loads(path.read_text())["checkpoints"]) > count:
            time.sleep(random.uniform(0, 0.2))
            return
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"{count} epochs did not come: {process.communicate()}")


@pytest.mark.exhaustive
def test_kill_9_and_ctrl_c_then_resume_end_with_the_same_bits(tmp_path, start):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    uninterrupted = start(straight)

    process = start(broken)
    wait_for_epochs(process, broken, 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert run_directory.read(broken)["status"] == "running"
    assert_masked(run_directory.read_model(broken / "model.keras"))

    process = start(broken, "--resume")
    wait_for_epochs(process, broken, 5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"Interrupted. Continue with: tfsparse train --resume --out {broken}"
    assert "Traceback" not in errors
    assert_masked(run_directory.read_model(broken / "model.keras"))

    process = start(broken, "--resume")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "epoch 24/24" in output and "epoch 2/24" not in output
    _, errors = uninterrupted.communicate()
    assert uninterrupted.returncode == 0, errors
    assert bits(broken) == bits(straight)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "prune",
    ["prune={sparsity: 0.98, schedule: nested, pruner: feather}", "prune={sparsity: auto, drop: 0.02}"],
    ids=["nested", "auto"],
)
def test_schedules_with_a_state_of_their_own_are_resumed_after_kill_9_with_the_same_bits(prune, tmp_path, start):
    """Nested draws levels from epoch 13 on; the search for a sparsity is in the midst of its levels in epoch 11."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    uninterrupted, process = start(straight, *sets(prune)), start(broken, *sets(prune))
    wait_for_epochs(process, broken, 10 if "auto" in prune else 14)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run_directory.read(broken)["status"] == "running"
    for resumed in (start(broken, "--resume"), uninterrupted):
        _, errors = resumed.communicate()
        assert resumed.returncode == 0, errors
    assert bits(broken) == bits(straight)


def test_ctrl_c_stays_ctrl_c_when_tidying_up_fails():
    with pytest.raises(KeyboardInterrupt), experiment._interruptible():
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("Array has been deleted")
    with pytest.raises(RuntimeError), experiment._interruptible():
        raise RuntimeError("a fault of its own")


# ----------------------------------------------------------------------------------------------------------- refusals


def test_a_run_is_not_overwritten_unasked(finished):
    directory, run = finished
    with pytest.raises(run_directory.RunError, match="already holds a run; add --overwrite to replace it"):
        experiment.train(small(), directory)
    assert run_directory.read(directory) == run


def test_other_peoples_files_are_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(run_directory.RunError, match="is not a run of tfsparse"):
            experiment.train(small(), tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwrite_replaces_the_run_but_only_when_the_new_one_can_be_trained(tmp_path):
    directory = tmp_path / "run"
    first = experiment.train(small("epochs=1"), directory)
    with pytest.raises(ValueError, match="Nothing to prune"):
        experiment.train(small("model.widths=[]", "prune.skip_last=true"), directory, overwrite=True)
    assert run_directory.read(directory) == first
    second = experiment.train(small(), directory, overwrite=True)
    assert len(second["epochs"]) == 2
    assert run_directory.read(directory) == second


def test_resume_with_another_config_names_the_keys(finished):
    with pytest.raises(run_directory.RunError) as caught:
        experiment.train(small("epochs=4", "prune.sparsity=0.8"), finished[0], resume=True)
    assert "  epochs: 2 -> 4\n  prune.sparsity: 0.75 -> 0.8" in str(caught.value)


def test_resume_of_a_finished_run_changes_nothing(finished):
    directory, run = finished
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert experiment.train(small(), directory, resume=True) == run
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_resume_without_a_run(tmp_path):
    with pytest.raises(run_directory.RunError, match="holds no run"):
        experiment.train(small(), tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("change", ["delete", "replace"])
def test_resume_refuses_a_model_that_the_run_did_not_write(finished, tmp_path, change):
    run = run_directory.read(finished[0]) | {"status": "running"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    if change == "replace":
        (tmp_path / "model.keras").write_bytes(b"another model")
    with pytest.raises(run_directory.RunError, match="is not what this run wrote"):
        experiment.train(small(), tmp_path, resume=True)


# ---------------------------------------------------------------------------------------------------------- optimizers


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["optimizer.name=sdg"], "Unknown optimizer 'sdg'.*Did you mean 'sgd'"),
        (["optimizer.momentun=0.9"], "optimizer.momentun is not an argument of Adam"),
        (["optimizer.beta_1=fast"], "optimizer: Adam refuses"),
        (["optimizer.name=lion", "optimizer.momentum=one_cycle"], "works with sgd, adam, adamw"),
        (["optimizer={name: sgd, learning_rate: 0.1, momentum: one_cycle}"], "must be a OneCycleRate"),
        (["optimizer.use_ema=true"], "optimizer.use_ema: "),
        (["steps_per_execution=4"], "does not divide the 11 steps of an epoch; write 1"),
        (["steps_per_execution=1000000000000"], "does not divide the 11 steps of an epoch; write 11"),
        (["prune.schedule={name: one_cycle, alpha: -1}"], "OneCycle got alpha=-1.*expected finite numbers"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        experiment.train(small(*overrides), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
