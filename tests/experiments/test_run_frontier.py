import pytest
from small_config import small
from typer.testing import CliRunner

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import experiment, run_frontier
from tfsparse.experiments.zoo import data
from tfsparse_command.app import app

NESTED = "prune={sparsity: 0.75, schedule: {name: nested, levels: [0.0, 0.5, 0.75]}, pruner: feather}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "nested"
    experiment.train(small(NESTED), path)
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, ["frontier", *map(str, arguments)])


def test_the_levels_of_a_run_are_measured_on_its_validation_images(directory):
    result = run_frontier.measure(directory, with_costs=False)
    model, images = run_directory.read_model(directory / "model.keras"), data.load("digits")
    assert [row.sparsity for row in result.rows] == [0.0, 0.5, 0.75]
    for row in result.rows:
        plain = tfsparse.at(model, row.sparsity)
        assert row.value == plain.evaluate(images.validation, verbose=0, return_dict=True)["accuracy"]


def test_the_command_prints_the_table_and_the_knee_and_draws(directory, tmp_path):
    done = invoke(directory, "--no-measure", "--drop", "1", "--out", tmp_path / "plot.png")
    assert done.exit_code == 0, done.output
    assert "every level was trained" in done.output
    assert "The sparsest that costs at most 1 of accuracy: 0.75" in done.output
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_mistakes_are_one_sentence(directory, tmp_path):
    for arguments in ([tmp_path / "nothing"], [directory, "--target", "toaster"], [directory, "--out", tmp_path]):
        done = invoke(*arguments, "--no-measure")
        assert done.exit_code == 2
        assert done.output.startswith("Error: ")
        assert "Traceback" not in done.output
    assert invoke(directory, "--drop", "-1").exit_code == 2
