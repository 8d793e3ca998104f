"""Damaged files of models: a command says one sentence with the file's name or does its work, never half of it."""

import shutil
import zipfile

import fuzzing
import keras
import pytest
from thoroughly import also
from typer.testing import CliRunner

import tfsparse
from tfsparse.doctor import measurement
from tfsparse_command.app import app

layers = keras.layers
SEEDS_OF_A_PART = [*range(10), *also(range(10, 40))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one pruned model as a .keras file, as a SavedModel, and as TFLite files."""
    folder = tmp_path_factory.mktemp("whole")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(64, activation="relu")(x)), name="net")
    model.compile("adam", "mse")
    pruner = tfsparse.Magnitude(granularity={"dense": (1, 4), "conv": "weight"}, scope="layer")
    tfsparse.sparsify(model, "constant", 0.8, pruner, total_steps=2).prune_now()
    model.save(folder / "model.keras")
    model.export(folder / "saved", verbose=False)
    tfsparse.export_tflite(model, folder / "file.tflite")
    return folder


def assert_one_sentence(name, *arguments):
    """The command does its work, or its error is one line that names the file."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code in (0, 2) and isinstance(done.exception, SystemExit | None), done.exception
    if done.exit_code:
        assert done.stderr.startswith("Error: ") and name in done.stderr and done.stderr.count("\n") == 1, done.output
    return done.exit_code


def assert_none_is_half(folder, before, refused, path):
    """After an error nothing is there that was not there before."""
    assert path.exists() != bool(refused)
    after = {name: content for name, content in fuzzing.contents(folder).items() if not name.startswith(path.name)}
    assert after == before and {p.name for p in folder.iterdir()} <= {*(n.split("/")[0] for n in before), path.name}


@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_damaged_tflite_files(whole, tmp_path, seed):
    (tmp_path / "theirs.tflite").write_bytes(fuzzing.damaged((whole / "file.tflite").read_bytes(), seed))
    before = fuzzing.contents(tmp_path)
    assert_one_sentence("theirs.tflite", "doctor", tmp_path / "theirs.tflite", "--no-measure")
    for command in (["report"], ["plan"], ["doctor", "--target", "savedmodel"]):
        assert assert_one_sentence("theirs.tflite", *command, tmp_path / "theirs.tflite")
    refused = assert_one_sentence("theirs.tflite", "export", tmp_path / "theirs.tflite", tmp_path / "out")
    assert_none_is_half(tmp_path, before, refused, tmp_path / "out")


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(60))
def test_damaged_tflite_files_are_measured(whole, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(measurement, "ROUNDS", 1)
    monkeypatch.setattr(measurement, "WINDOW", 1e-3)
    (tmp_path / "theirs.tflite").write_bytes(fuzzing.damaged((whole / "file.tflite").read_bytes(), seed))
    assert_one_sentence("theirs.tflite", "doctor", tmp_path / "theirs.tflite")


def damaged_member(path, member, seed):
    """A .keras file whose checksums are right and one of whose parts is damaged."""
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, fuzzing.damaged(content, seed) if name == member else content)


@pytest.mark.filterwarnings("ignore:.* is from before the target was reached")  # a damaged mask misses the target
@pytest.mark.parametrize("part", ["file", "config.json", "model.weights.h5"])
@pytest.mark.parametrize("seed", SEEDS_OF_A_PART)
def test_damaged_keras_files(whole, tmp_path, part, seed):
    path = tmp_path / "theirs.keras"
    path.write_bytes((whole / "model.keras").read_bytes())
    if part == "file":
        path.write_bytes(fuzzing.damaged(path.read_bytes(), seed))
    else:
        damaged_member(path, part, seed)
    before = fuzzing.contents(tmp_path)
    assert_one_sentence("theirs.keras", "report", path)
    assert_one_sentence("theirs.keras", "doctor", path, "--no-measure")
    refused = assert_one_sentence("", "plan", path, "--out", tmp_path / "plan.yaml")
    assert_none_is_half(tmp_path, before, refused, tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").unlink(missing_ok=True)
    refused = assert_one_sentence("", "export", path, tmp_path / "out")
    assert_none_is_half(tmp_path, before, refused, tmp_path / "out")


PARTS = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", SEEDS_OF_A_PART)
def test_damaged_saved_models(whole, tmp_path, part, seed):
    path, out = tmp_path / "theirs", tmp_path / "out"
    shutil.copytree(whole / "saved", path)
    (path / part).write_bytes(fuzzing.damaged((path / part).read_bytes(), seed))
    before = fuzzing.contents(tmp_path)
    for target in ("savedmodel", "tflite-cpu"):
        assert_one_sentence("theirs", "doctor", path, "--target", target, "--no-measure")
    for command in ("report", "plan"):
        assert assert_one_sentence("theirs", command, path)
    for export, name in ((tfsparse.export, "out"), (tfsparse.export_tflite, "out.tflite")):
        try:
            refused = not export(path, tmp_path / name)
        except ValueError as error:
            refused = str(error)
        assert_none_is_half(tmp_path, before, refused, tmp_path / name)
        shutil.rmtree(out, ignore_errors=True)
