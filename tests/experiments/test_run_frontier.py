import pytest
from small_config import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import tfsparse
from tfsparse.backend import run_directory, run_record
from tfsparse.experiments import experiment, run_frontier
from tfsparse.experiments.zoo import data
from tfsparse.reporting import page
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


def test_the_command_keeps_the_frontier_for_the_page_and_for_tensorboard(directory):
    assert invoke(directory, "--no-measure").exit_code == 0
    run, result = run_record.read(directory), run_frontier.measure(directory, with_costs=False)
    assert [row["value"] for row in run["frontier"]["rows"]] == [row.value for row in result.rows]
    assert ">Frontier</h2>" in page.render(run)
    events = EventAccumulator(str(directory / "tensorboard" / "frontier"))
    events.Reload()
    (name,) = events.Tags()["tensors"]
    assert (name, {event.step for event in events.Tensors(name)}) == ("frontier/accuracy", {0, 500, 750})


def test_a_damaged_frontier_is_named(directory, tmp_path):
    run = run_directory.read(directory) | {"frontier": {"rows": []}}
    run_directory.write_run(tmp_path, run)
    with pytest.raises(run_directory.RunError, match="frontier"):
        run_record.read(tmp_path)


MISTAKES = {
    "no run": (["{}/nothing"], "nothing holds no run: cannot read"),
    "unknown target": (["{run}", "--target", "toaster"], "Unknown target 'toaster': expected one of"),
    "no image": (["{run}", "--out", "{}/plot.txt"], "plot.txt does not end in an image format; write"),
    "others' file": (["{run}", "--out", "{}/mine.png"], "mine.png exists, and tfsparse replaces only what it wrote"),
    "no drop": (["{run}", "--drop", "-1"], "greater than or equal to 0"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_sentence(arguments, message, directory, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    done = invoke(*(a.format(tmp_path, run=directory) for a in arguments), "--no-measure")
    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert message in " ".join(done.output.replace("│", "").split())
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
