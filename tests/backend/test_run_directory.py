"""Run directories: the record always knows the model that is there."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tfsparse.backend import run_directory


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "finished"}'])
def test_a_damaged_run_json_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(run_directory.RunError, match=r"cannot read .*run\.json"):
        run_directory.read(tmp_path)


@pytest.mark.parametrize(
    "traffic, sync_stats", [(None, None), ({"events": 3, "bytes": 24}, {"num_syncs": 3, "bytes": 24})]
)
def test_a_record_of_before_has_the_present_names(tmp_path, traffic, sync_stats):
    run = {"status": "finished", "config": {}, "checkpoints": []}
    former = run | {"epochs": [{"epoch": 1, "churn": 0.5, "loss": 2.0}], "report": {"rows": [], "traffic": traffic}}
    (tmp_path / "run.json").write_text(json.dumps(former))
    present = run_directory.read(tmp_path)
    assert list(present["epochs"][0].items()) == [("epoch", 1), ("mask_change_rate", 0.5), ("loss", 2.0)]
    assert present["report"] == {"rows": [], "sync_stats": sync_stats}


def test_dropout_goes_on_where_it_was(tmp_path):
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5)])
    model.compile("sgd", "mse")
    ones, run = np.ones((1, 50), "float32"), {"checkpoints": []}
    model(ones, training=True)
    run_directory.write_model(tmp_path, run, model)
    loaded = run_directory.load_model(tmp_path, json.loads((tmp_path / "run.json").read_text()))
    assert np.array_equal(loaded(ones, training=True), model(ones, training=True))


@pytest.mark.parametrize("states", [[], [[1, 2], [3, 4]], [[1, 2, 3]], [[None, 1]], [["x", 1]], [[10**400, 2]]])
def test_random_states_of_another_model_are_refused(states):
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5)])
    with pytest.raises(run_directory.RunError, match=r"does not hold the random states of model\.keras"):
        run_directory.set_random_states(model, states)


def test_the_record_says_which_of_its_models_is_there(tmp_path):
    model, run = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), {"checkpoints": []}
    assert run_directory.num_checkpoints(tmp_path, run) == 0
    for number in (1, 2):
        run_directory.write_model(tmp_path, run, model)
        model.layers[0].bias.assign([number])
        assert run_directory.num_checkpoints(tmp_path, run) == number
    later = run | {"checkpoints": [*run["checkpoints"], {"sha256": "of a model that was never renamed"}]}
    assert run_directory.num_checkpoints(tmp_path, later) == 2
    (tmp_path / "model.keras").write_text("another model")
    with pytest.raises(run_directory.RunError, match="is not what this run wrote, so the run cannot be resumed"):
        run_directory.num_checkpoints(tmp_path, run)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK\x03\x04 and no more"])
def test_a_model_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "theirs.keras").write_bytes(content)
    with pytest.raises(run_directory.RunError, match=r"^Cannot load .*theirs\.keras: it is no \.keras file"):
        run_directory.read_model(tmp_path / "theirs.keras")


CONFIGS = {
    "Adam": {"module": "keras.optimizers", "class_name": "Adam", "config": {}, "registered_name": None},
    "Expected object": [1],
    "Cannot load": {"module": "keras", "class_name": "Functional", "config": {"name": "m"}, "registered_name": None},
}


@pytest.mark.parametrize("said", CONFIGS)
def test_a_model_file_that_holds_no_model_is_named(tmp_path, said):
    path, model = tmp_path / "theirs.keras", keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.save(path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, json.dumps(CONFIGS[said]) if name == "config.json" else content)
    with pytest.raises(run_directory.RunError, match=said) as refused:
        run_directory.read_model(path)
    assert "theirs.keras" in str(refused.value)
