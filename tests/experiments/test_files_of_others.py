"""Every command and option that writes, among files that tfsparse did not write: none of them changes."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from small_config import SMALL, small
from typer.testing import CliRunner

from tfsparse.backend import files, run_directory
from tfsparse.experiments import experiment
from tfsparse_command.app import app

OTHERS = (
    ".git/config",
    ".gitignore",
    ".ssh/id",
    "notes.txt",
    ".new-site/index.html",
    "savedmodel/notes.txt",
    "savedmodel/variables/mine.bin",
    "savedmodel/variables/variables.bak",
    "savedmodel/assets/vocabulary.txt",
    "tensorboard/train/mine.json",
    "tensorboard/mine/events.out.tfevents.1",
    "activation_density/mine.txt",
    "activation_density/stage-best.keras",
    ".tfsparse-notes/mine.txt",
)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    done = invoke(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    return " ".join(done.stderr.split())


def put_files_of_others(directory):
    for name in OTHERS:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine: {name}")
    outside = directory.with_name("outside")
    outside.mkdir(exist_ok=True)
    (outside / "saved_model.pb").write_text("mine")
    (directory / "link").symlink_to(outside)


def others(directory):
    return {name: (directory / name).read_text() for name in OTHERS if (directory / name).is_file()}


def content(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A finished run, its config, and a comparison of one run."""
    folder = tmp_path_factory.mktemp("work")
    experiment.train(small("epochs=1"), folder / "run")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL | {"epochs": 1}))
    comparison = {"base": SMALL | {"epochs": 1}, "sparsities": [0.75], "methods": {"one": ["prune.sparsity=$sparsity"]}}
    (folder / "comparison.yaml").write_text(yaml.safe_dump(comparison))
    return folder


@pytest.fixture
def run(workplace, tmp_path):
    """A copy of the run, with files of others in it."""
    shutil.copytree(workplace / "run", tmp_path / "run")
    put_files_of_others(tmp_path / "run")
    return tmp_path / "run"


def test_overwriting_a_run_leaves_the_files_of_others(workplace, run):
    before = others(run)
    done = invoke("train", workplace / "small.yaml", "--out", run, "--overwrite", "--set", "seed=1")
    assert done.exit_code == 0, done.output
    assert others(run) == before and len(before) == len(OTHERS)
    assert (run.parent / "outside" / "saved_model.pb").read_text() == "mine"
    record = run_directory.read(run)
    assert record["seed"] == 1 and record["status"] == "finished"
    assert (run / "savedmodel" / "saved_model.pb").is_file()
    assert len(list(run.glob("tensorboard/train/events*"))) == 1, "the curves of the earlier run are gone"


def test_resuming_a_run_leaves_the_files_of_others(run):
    record = json.loads((run / "run.json").read_text())
    record["status"] = "running"
    (run / "run.json").write_text(json.dumps(record))
    (run / ".tfsparse-killed.tmp").mkdir()
    before = others(run)
    done = invoke("train", "--resume", "--out", run)
    assert done.exit_code == 0, done.output
    assert others(run) == before and not (run / ".tfsparse-killed.tmp").exists()
    assert run_directory.read(run)["status"] == "finished"


@pytest.mark.parametrize("text", ["{}", '{"status": "finished"}', "[1, 2]", "not json"])
def test_a_directory_with_another_run_json_is_not_overwritten(workplace, tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "model.keras").write_text("mine")
    before = content(tmp_path)
    for option in ("--overwrite", "--resume"):
        assert "holds no run" in refused("train", workplace / "small.yaml", "--out", tmp_path, option)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"), [("savedmodel", "is no directory"), ("savedmodel/variables", "is a link, and tfsparse writes")]
)
def test_a_linked_directory_in_a_run_is_neither_emptied_nor_written_to(workplace, run, name, message):
    outside = run.parent / "outside"
    (outside / "variables.index").write_text("mine")
    before = content(outside)
    shutil.rmtree(run / name)
    (run / name).symlink_to(outside)
    assert f"{name} {message}" in refused("train", workplace / "small.yaml", "--out", run, "--overwrite")
    assert content(outside) == before


WRITERS = {
    "report": lambda folder, path: ("report", folder / "run", "--html", path),
    "compare": lambda folder, path: ("compare", folder / "run", "--out", path),
    "plan": lambda folder, path: ("plan", folder / "run" / "model.keras", "--target", "any", "--out", path),
    "matrix": lambda folder, path: ("matrix", folder / "comparison.yaml", "--out", folder / "m", "--plot", path),
}
SUFFIXES = {"report": ".html", "compare": ".png", "plan": ".yaml", "matrix": ".png"}


@pytest.mark.parametrize("command", WRITERS)
def test_a_directory_is_not_replaced_by_a_file(workplace, tmp_path, command):
    directory = tmp_path / f"site{SUFFIXES[command]}"
    directory.mkdir()
    (directory / "index.html").write_text("mine")
    for options in ((), ("--overwrite",)):
        assert "is a directory: expected the name of a file" in refused(
            *WRITERS[command](workplace, directory), *options
        )
    assert content(tmp_path) == {f"{directory.name}/index.html": b"mine"}


@pytest.mark.parametrize("command", ["report", "compare", "plan"])
def test_a_file_of_others_is_replaced_only_with_overwrite(workplace, tmp_path, command):
    path = tmp_path / f"mine{SUFFIXES[command]}"
    path.write_text("mine")
    message = refused(*WRITERS[command](workplace, path))
    assert "exists, and tfsparse replaces only what it wrote. Write another name, or add --overwrite" in message
    assert content(tmp_path) == {path.name: b"mine"}
    assert invoke(*WRITERS[command](workplace, path), "--overwrite").exit_code == 0
    assert path.read_bytes() != b"mine" and len(content(tmp_path)) == 1


@pytest.mark.parametrize(("command", "is_replaced"), [("report", True), ("compare", True), ("plan", False)])
def test_a_page_or_a_figure_of_tfsparse_is_replaced_and_a_config_is_not(workplace, tmp_path, command, is_replaced):
    path = tmp_path / f"ours{SUFFIXES[command]}"
    assert [invoke(*WRITERS[command](workplace, path)).exit_code for _ in range(2)] == [0, 0 if is_replaced else 2]


def test_a_comparison_whose_figure_cannot_be_written_is_refused_before_it_is_trained(workplace, tmp_path):
    (tmp_path / "mine.png").write_text("mine")
    assert "replaces only what it wrote" in refused(*WRITERS["matrix"](workplace, tmp_path / "mine.png"))
    assert not (workplace / "m").exists()


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "a/b", ".."])
def test_names_are_no_paths(workplace, tmp_path, name):
    comparison = yaml.safe_load((workplace / "comparison.yaml").read_text())
    comparison["methods"] = {name: comparison["methods"]["one"]}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(comparison))
    before = content(tmp_path)
    message = refused("matrix", tmp_path / "comparison.yaml", "--out", tmp_path / "inner" / "runs")
    assert "expected no path, but a name such as" in message
    message = refused("train", workplace / "small.yaml", "--set", f"name={name}")
    assert f"name={name!r}: expected a name for the run, such as mnist-lenet300, and no path" in message
    assert content(tmp_path) == before


@pytest.mark.skipif(files.fcntl is None, reason="no locks of files on this system")
def test_two_trainings_do_not_share_a_directory(workplace, tmp_path):
    with files.locked(tmp_path / "run"):
        message = refused("train", workplace / "small.yaml", "--out", tmp_path / "run")
    assert "Another process is training into" in message and not (tmp_path / "run").exists()


def test_a_comparison_whose_figure_has_no_format_is_refused_before_it_is_trained(workplace, tmp_path):
    assert "does not end in an image format" in refused(*WRITERS["matrix"](workplace, tmp_path / "figure.xyz"))
    assert not (workplace / "m").exists()


def test_a_run_in_a_directory_that_tensorflow_takes_for_a_pattern_ends(workplace, tmp_path):
    done = invoke("train", workplace / "small.yaml", "--out", tmp_path / "out[1]")
    assert done.exit_code == 0, done.output
    (tmp_path / "out[1]" / "savedmodel").rename(tmp_path / "plain")
    inputs = np.zeros((2, 8, 8, 1), "float32")
    outputs = run_directory.read_model(tmp_path / "out[1]" / "model.keras").predict(inputs, verbose=0)
    loaded = tf.saved_model.load(str(tmp_path / "plain"))
    np.testing.assert_allclose(loaded.serve(inputs), outputs, rtol=1e-5)


@pytest.mark.parametrize("name", ["model.keras", "run.json"])
def test_exports_replace_nothing(workplace, tmp_path, name):
    path = tmp_path / name
    path.write_text("mine")
    for target in (path, tmp_path):
        assert "exists already" in refused("export", workplace / "run" / "model.keras", target)
    assert content(tmp_path) == {name: b"mine"}
