"""Damaged configs and records: whatever a command gets, it says one sentence or does its work, and leaves nothing half."""

import json

import fuzzing
import pytest
import yaml
from small_config import SMALL, small
from typer.testing import CliRunner

from tfsparse.experiments import experiment
from tfsparse.experiments.commands import app
from tfsparse.experiments.sections import ConfigError
from tfsparse.experiments.zoo import data

CONFIG = SMALL | {"prune": {"sparsity": 0.75, "schedule": {"name": "one_cycle", "alpha": 14}, "skip_first": True}}
CHANGES = ["prune.schedule=polynomial", "prune.sparsity=$sparsity"]
COMPARISON = {"base": CONFIG, "sparsities": [0.9, 0.95], "seeds": [0, 1], "methods": {"dense": [], "agp": CHANGES}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a finished run."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    experiment.train(small("epochs=1"), directory)
    return directory


@pytest.fixture
def would_train(monkeypatch):
    """Everything that comes before training is done, and then nothing is trained."""

    def stop(*args):
        raise ConfigError("would train")

    digits = data.load("digits")
    monkeypatch.setattr(experiment.zoo_data, "load", lambda *args, **options: digits)
    monkeypatch.setattr(experiment, "_begin", stop)
    monkeypatch.setattr(experiment.run_directory, "load_model", stop)


def outcome(*arguments):
    """What a command says: its error, or an empty text."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code in (0, 2) and isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code == 0 or done.stderr.startswith("Error: "), done.output
    return done.stderr


@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_a_damaged_config(tmp_path, would_train, seed):
    for command, content in (("train", CONFIG), ("matrix", COMPARISON)):
        file = tmp_path / f"{command}.yaml"
        file.write_bytes(fuzzing.damaged(yaml.safe_dump(content).encode(), seed))
        before = fuzzing.contents(tmp_path)
        assert outcome(command, file, "--out", tmp_path / "run")
        assert fuzzing.contents(tmp_path) == before


@pytest.mark.parametrize("status", ["finished", "running"])
@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_a_damaged_run(run, tmp_path, would_train, status, seed):
    directory = tmp_path / "run"
    directory.mkdir()
    record = json.loads((run / "run.json").read_text()) | {"status": status}
    (directory / "run.json").write_bytes(fuzzing.damaged(json.dumps(record, indent=1).encode(), seed))
    before = fuzzing.contents(tmp_path)
    refused = outcome("compare", directory, run, "--out", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file() != bool(refused)
    refused = outcome("report", directory, "--html", tmp_path / "run.html")
    assert (tmp_path / "run.html").is_file() != bool(refused)
    assert refused or (tmp_path / "run.html").read_text().endswith("</html>")
    (directory / "model.keras").write_bytes((run / "model.keras").read_bytes())
    outcome("train", "--resume", "--out", directory)
    made = {"plot.png", "run.html", "run/model.keras"}
    assert {path: content for path, content in fuzzing.contents(tmp_path).items() if path not in made} == before
