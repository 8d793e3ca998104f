"""Records of runs: what was written is valid, and whatever else is in a file is named."""

import json
import pathlib

import pytest

from tfsparse.backend import run_directory, run_record

ROOT = pathlib.Path(__file__).parents[2]
# Folders of results of other commands than `train`.
NOT_OF_TRAIN = ("recalibration", "sensitivity", "first_screen", "free_tickets", "one_shot", "tost")
RESULTS = [
    path
    for path in sorted((ROOT / "benchmarks" / "results").glob("*/**/*-seed*.json"))
    if "tfmot" not in path.stem and not path.stem.startswith("frontier-") and not {*path.parts} & {*NOT_OF_TRAIN}
]
FINISHED = ROOT / "benchmarks" / "results" / "activation_density" / "lenet5-shrinking-seed0.json"


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in RESULTS}))
def test_every_record_that_was_ever_written_is_valid(folder):
    for path in RESULTS:
        if path.parent.name == folder:
            assert run_record.read(path) == run_directory.read(path)


def test_a_run_of_an_older_version_that_was_interrupted_is_valid():
    assert run_record.read(ROOT / "tests" / "saved_by_0_1" / "run")["status"] == "running"


WRONG = {
    "summary": [None, "text", []],
    "summary.accuracy": [None, "text", float("nan"), -1, 1e308],
    "summary.seconds": [None, float("inf"), "long"],
    "summary.training_complexity": [None, 1e308],
    "summary.asked_sparsity": ["most", 2],
    "summary.method": [None, 3],
    "epochs": [None, [], {}, [None], ["text"]],
    "epochs.0.val_accuracy": [None, "text", []],
    "epochs.0.loss": [None, "text", {"a": 1}, 10**400, 1e308],
    "epochs.0.densities": ["text", {"a": None}, [1]],
    "seconds": [None, "text", [None], {}],
    "report": [None, "text", []],
    "report.rows": [None, ["text"], [{}]],
    "report.rows.0.shape": [None, "3x3", [None]],
    "report.kept": [None, -1, 10**400],
    "report.sync_stats": [{"num_syncs": "many"}, "text"],
    "environment": [None, "text", {}],
    "environment.versions": [None, {"keras": None}],
    "checkpoints": [None, "text", [None], [{}]],
    "checkpoints.0.sha256": [None, 3],
    "checkpoints.0.random_states": [None, "text", [[None]], [["x"]]],
    "config": [None, "text", {}],
    "config.epochs": [None, 0, "ten"],
    "status": [None, "text", ["finished"]],
    "name": [None, 3],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in WRONG.items() for value in values])
def test_what_is_wrong_in_a_record_is_named(tmp_path, key, value):
    run = run_directory.read(FINISHED)
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    part = run
    for name in path:
        part = part[name]
    part[last] = value
    assert_refused(tmp_path, json.dumps(run), key.split(".")[0])


@pytest.mark.parametrize("key", ["summary", "report", "environment", "seconds", "name"])
def test_a_finished_run_has_everything(tmp_path, key):
    run = run_directory.read(FINISHED)
    del run[key]
    assert_refused(tmp_path, json.dumps(run), f"{key}: Field required")


@pytest.mark.parametrize("key", ["summary", "report", "environment"])
def test_what_an_interrupted_run_lacks_is_absent_and_not_null(tmp_path, key):
    run = run_directory.read(FINISHED) | {"status": "running"}
    assert_refused(tmp_path, json.dumps(run | {key: None}), key)
    del run[key]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert run_record.read(tmp_path) == run


def test_more_models_than_epochs_are_named(tmp_path):
    run = run_directory.read(FINISHED)
    run["checkpoints"] *= 20
    assert_refused(tmp_path, json.dumps(run), "fewer epochs than models")


def test_what_is_nested_too_deep_is_refused(tmp_path):
    run = json.dumps(run_directory.read(FINISHED) | {"extra": "DEEP"})
    for depth in (100, 100_000):
        assert_refused(tmp_path, run.replace('"DEEP"', "[" * depth + "]" * depth), "")


def assert_refused(folder, text, message):
    (folder / "run.json").write_text(text)
    with pytest.raises(run_directory.RunError, match="holds no run|holds a damaged run") as caught:
        run_record.read(folder)
    assert message in str(caught.value) or "is not one of tfsparse" in str(caught.value)
