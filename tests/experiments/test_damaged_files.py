"""Damaged configs and records: a command says one sentence or does its work, and leaves nothing half done."""

import json

import fuzzing
import pytest
import yaml
from small_config import SMALL, small
from thoroughly import also
from typer.testing import CliRunner

from tfsparse.experiments import experiment
from tfsparse.experiments.sections import ConfigError
from tfsparse.experiments.zoo import data
from tfsparse_command.app import app

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


def damaged(values, seed, dump):
    """The text of a file in which bytes have changed, and one in which a value has."""
    return fuzzing.damaged(dump(values).encode(), seed), dump(fuzzing.with_odd_value(values, seed)).encode()


@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_a_damaged_config(tmp_path, would_train, seed):
    file = tmp_path / "damaged.yaml"
    for command, values in (("train", CONFIG), ("matrix", COMPARISON)):
        for content in damaged(values, seed, yaml.safe_dump):
            file.write_bytes(content)
            assert outcome(command, file, "--out", tmp_path / "run")
            assert fuzzing.contents(tmp_path) == {file.name: content}


@pytest.mark.parametrize("status", ["finished", *also(["running"])])
@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_a_damaged_run(run, tmp_path, would_train, status, seed):
    record = json.loads((run / "run.json").read_text()) | {"status": status}
    for name, content in zip(("bytes", "value"), damaged(record, seed, json.dumps), strict=True):
        (tmp_path / name).mkdir()
        assert_whole(tmp_path / name, content, run)


def assert_whole(folder, content, intact):
    directory, plot, page = folder / "run", folder / "plot.png", folder / "run.html"
    directory.mkdir()
    (directory / "run.json").write_bytes(content)
    assert bool(outcome("compare", directory, intact, "--out", plot)) != plot.is_file()
    assert bool(outcome("report", directory, "--html", page)) != page.is_file()
    assert not page.is_file() or page.read_text().endswith("</html>")
    (directory / "model.keras").write_bytes((intact / "model.keras").read_bytes())
    outcome("train", "--resume", "--out", directory)
    assert (directory / "run.json").read_bytes() == content
    assert {path.name for path in folder.rglob("*")} <= {"run", "run.json", "model.keras", plot.name, page.name}
