"""The command line: what it prints, and that every mistake is one message, exit code 2 and nothing written."""

import io
import json
import os
import pathlib
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from rich.console import Console
from thoroughly import also
from typer.testing import CliRunner

import tfsparse
from tfsparse.experiments import commands
from tfsparse_command.app import app

ROOT = pathlib.Path(__file__).parents[2]
SMALL = """
epochs: 1
data: {name: digits, batch_size: 128}
model: {name: mlp, widths: [16]}
optimizer: {name: adam, learning_rate: 0.01}
prune: {sparsity: 0.75}
"""


RUN = {"data": "digits", "model": "mlp", "method": "dense", "seed": 0, "asked_sparsity": 0.0, "sparsity": 0.0}
RUN = {"summary": RUN | {"accuracy": 0.9, "best_accuracy": 0.9, "seconds": 1.0}}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a config, two finished runs of it and a dense one."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(SMALL)
    for name, override in (("seed0", "seed=0"), ("seed1", "seed=1"), ("dense", "prune=null")):
        done = invoke("train", folder / "small.yaml", "--out", folder / name, "--set", override)
        assert done.exit_code == 0, done.output
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def shell(*arguments):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", "from tfsparse_command import main; main()", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def assert_refused(result, *messages):
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    for message in messages:
        assert message in result.stderr


def files(folder):
    return sorted(folder.rglob("*"))


# ------------------------------------------------------------------------------------------------------ what it prints


def test_train_prints_epochs_report_and_files(workplace, tmp_path):
    done = invoke("train", workplace / "small.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "epoch 1/1  loss " in done.stdout
    assert "sparsity 0.75" in done.stdout
    assert "dense1" in done.stdout, "the report names the layers"
    for name in ("model.keras", "run.json", "savedmodel/", "tensorboard/", "training.png"):
        assert str(tmp_path / "run" / name) in done.stdout


@pytest.mark.parametrize("first_epoch", [0, 1], ids=["new", "resumed"])
def test_the_bar_of_a_terminal_counts_the_steps_of_all_epochs(monkeypatch, first_epoch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(commands, "console", console)
    with commands._progress(epochs=3) as callback:
        callback.set_params({"steps": 4})
        callback.on_train_begin({})
        for epoch in range(first_epoch, 2):
            callback.on_epoch_begin(epoch, {})
            for step in range(4):
                callback.on_train_batch_end(step, {"loss": 0.5})
            callback.on_epoch_end(epoch, {"loss": 0.5})
    last = console.file.getvalue().split("\r")[-1]
    assert "epoch 2/3  loss 0.5000" in last and "8/12" in last


def test_set_changes_the_config(workplace):
    run = json.loads((workplace / "seed1" / "run.json").read_text())
    assert (run["seed"], run["config"]["seed"]) == (1, 1)


def test_without_a_config_the_quick_start_is_trained_below_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("train", "--set", "epochs=1")
    assert done.exit_code == 0, done.output
    run = json.loads(pathlib.Path("runs/digits-quickstart/run.json").read_text())
    assert (run["config"]["data"]["name"], run["summary"]["asked_sparsity"]) == ("digits", 0.9)


def test_compare_takes_seeds_together_and_plots(workplace, tmp_path):
    folders = [workplace / name for name in ("seed0", "dense", "seed1")]
    done = invoke("compare", *folders, "--out", tmp_path / "plot.png")
    assert done.exit_code == 0, done.output
    runs = [json.loads((folder / "run.json").read_text())["summary"] for folder in folders]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "digits" in line]
    dense, sparse = rows
    assert dense[2:6] == ["dense", "0", "0.0000", "1"]
    assert sparse[2:6] == ["one_cycle, magnitude", "0.75", "0.7500", "2"]
    assert sparse[6].split(" ± ")[0] == f"{(runs[0]['accuracy'] + runs[2]['accuracy']) / 2:.4f}"
    assert "±" in sparse[6] and "±" not in dense[6]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_compare_says_which_differences_may_be_chance(workplace, tmp_path):
    run = json.loads((workplace / "dense" / "run.json").read_text())
    accuracies = {"a": (0.97, 0.98, 0.99), "b": (0.95, 0.96, 0.971), "c": (0.96, 0.985, 0.97)}
    runs = [(method, seed, value) for method, values in accuracies.items() for seed, value in enumerate(values)]
    for method, seed, accuracy in [*runs, ("d", 9, 0.9)]:
        (tmp_path / f"{method}{seed}").mkdir()
        summary = run["summary"] | {"method": method, "seed": seed, "accuracy": accuracy}
        (tmp_path / f"{method}{seed}" / "run.json").write_text(json.dumps(run | {"summary": summary}))
    done = invoke("compare", *sorted(tmp_path.iterdir()))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "digits" in line]
    assert [row[7] for row in rows] == ["", "-0.0197 ± 0.0014", "-0.0083 ± 0.0313 ~", "no common seed"], done.output


def test_compare_takes_files_too(workplace):
    by_file, by_folder = (invoke("compare", path) for path in (workplace / "dense" / "run.json", workplace / "dense"))
    assert by_file.exit_code == 0 and by_file.stdout == by_folder.stdout


def test_matrix_trains_what_the_file_asks_for_and_compares_it(workplace, tmp_path):
    base = yaml.safe_load((workplace / "small.yaml").read_text()) | {"prune": None}
    methods = {"dense": [], "agp": ["prune={schedule: polynomial, sparsity: $sparsity}"]}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"base": base, "sparsities": [0.5], "methods": methods}, sort_keys=False))
    done = invoke("matrix", file, "--out", tmp_path / "runs", "--set", "model.widths=[8]")
    assert done.exit_code == 0, done.output
    assert "1/2 dense-seed0" in done.stdout and "2/2 agp-0.5-seed0" in done.stdout and "polynomial" in done.stdout
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"dense-seed0", "agp-0.5-seed0", "comparison.png"}
    run = json.loads((tmp_path / "runs" / "agp-0.5-seed0" / "run.json").read_text())
    assert (run["config"]["model"]["widths"], run["summary"]["sparsity"]) == ([8], 0.5)
    assert "epoch 1/1" not in invoke("matrix", file, "--out", tmp_path / "runs", "--set", "model.widths=[8]").stdout


def test_report_prints_every_layer(workplace):
    done = invoke("report", workplace / "seed0" / "model.keras")
    assert done.exit_code == 0, done.output
    assert "dense1" in done.stdout and "logits" in done.stdout


STEPS = "{name: steps, first: 0.1, boundaries: [0.5]}"


@pytest.mark.parametrize("rate", ["{name: one_cycle, max: 0.1}", *also([STEPS])])
def test_report_in_a_process_of_its_own(workplace, tmp_path, rate):
    """Which has not trained, and must know the classes in the file all the same."""
    sets = ("--set", f"optimizer.learning_rate={rate}")
    done = invoke("train", workplace / "small.yaml", *sets, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    file = str(tmp_path / "run" / "model.keras")
    code = f"import sys; from tfsparse_command import main; sys.argv = ['tfsparse', 'report', {file!r}]"
    result = subprocess.run([sys.executable, "-c", f"{code}; main()"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "dense1" in result.stdout


def test_names_are_shown_and_neither_obeyed_nor_taken_for_markup(workplace, tmp_path):
    name = "[red]x\x1b[2J:bug:"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name=name)], name=name)
    model.save(tmp_path / "model.keras")
    done = invoke("report", tmp_path / "model.keras")
    assert done.exit_code == 0 and done.output.count(r"[red]x\x1b[2J:bug:") == 2, done.output
    run = json.loads((workplace / "dense" / "run.json").read_text())
    run["summary"] |= {"model": name, "method": name}
    (tmp_path / "run.json").write_text(json.dumps(run))
    done = invoke("compare", tmp_path)
    assert done.exit_code == 0 and done.output.count(r"[red]x\x1b[2J:bug:") == 2, done.output
    assert_refused(invoke("compare", tmp_path / name), r"[red]x\x1b[2J:bug: holds no run")


def test_the_names_of_a_comparison_are_shown_as_they_are(workplace, tmp_path, monkeypatch):
    monkeypatch.setattr("tfsparse.experiments.experiment.train", lambda *args, **kwargs: RUN)
    base = yaml.safe_load((workplace / "small.yaml").read_text())
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"base": base, "sparsities": [0.5], "methods": {"[red]a": []}}))
    done = invoke("matrix", file, "--out", tmp_path)
    assert done.exit_code == 0 and "1/1 [red]a-seed0" in done.stdout, done.output


def test_export_as_a_saved_model_and_as_a_file(workplace, tmp_path):
    model = workplace / "seed0" / "model.keras"
    done = invoke("export", model, tmp_path / "packed", "--values", "float16")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "packed" / "saved_model.pb").is_file() and f"SavedModel: {tmp_path / 'packed'}" in done.output
    done = invoke("export", model, tmp_path / "out.tflite")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.tflite").is_file() and "largest difference to the model's outputs" in done.output


@pytest.mark.parametrize("save", ["array", "by input"])
def test_export_of_integers_takes_examples(workplace, tmp_path, save):
    file, x = workplace / "seed0" / "model.keras", np.random.default_rng(0).uniform(size=(20, 8, 8, 1))
    model = keras.saving.load_model(file)
    examples = tmp_path / ("x.npy" if save == "array" else "x.npz")
    np.save(examples, x) if save == "array" else np.savez(examples, **{model.inputs[0].name: x})
    done = invoke("export", file, tmp_path / "out.tflite", "--values", "int8", "--representative", examples)
    assert done.exit_code == 0, done.output
    expected = tfsparse.export_tflite(model, tmp_path / "expected.tflite", "int8", x)
    assert {tensor.dtype for tensor in expected.tensors} == {"int8"}
    answers = [_answer(path, x[:4].astype("float32")) for path in (tmp_path / "out.tflite", expected.path)]
    assert np.array_equal(*answers)


def _answer(path, x):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")  # it has moved to another package
        runner = tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")
    (answer,) = runner(**dict.fromkeys(runner.get_input_details(), x)).values()
    return answer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("packed", "--values", "int4"), "expected one of 'float32', 'float16', 'int8'"),
        (("out.tflite", "--values", "int8"), "add --representative examples.npy"),
        (("out.tflite", "--dense"), "--dense is for a SavedModel"),
        (("packed", "--representative", "x.npy"), "--representative is for a TFLite file"),
        (("out.tflite", "--representative", "missing.npy"), "No such file"),
        (("out.tflite", "--representative", __file__), "is not a file of numpy.save or savez"),
    ],
)
def test_exports_that_are_refused(workplace, tmp_path, options, message):
    out, *rest = options
    done = invoke("export", workplace / "seed0" / "model.keras", tmp_path / out, *rest)
    assert done.exit_code == 2 and message in done.output
    assert not (tmp_path / out).exists()


def test_interruption_says_how_to_go_on(workplace, tmp_path, monkeypatch):
    from tfsparse.experiments import experiment, records

    def interrupted(config, directory, *args, **kwargs):
        records.begin(directory, {})
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", interrupted)
    done = invoke("train", workplace / "small.yaml", "--out", tmp_path / "my run")
    assert done.exit_code == 130
    assert done.stderr == f"Interrupted. Continue with: tfsparse train --resume --out '{tmp_path / 'my run'}'\n"


def test_interruption_before_anything_was_written(workplace, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfsparse.experiments.experiment.train", interrupted)
    done = invoke("train", workplace / "small.yaml", "--out", tmp_path / "run")
    assert (done.exit_code, files(tmp_path)) == (130, [])
    assert done.stderr == "Interrupted before training began; nothing was written.\n"


OOM = "OOM when allocating tensor with shape[120000000,120000000] and type float"
GRAPH = "Graph execution error:\n\nDetected at node a/b\n  File \"x.py\", line 7, in f\n\n{}\n\t [[node a]]\nHint: no"
DENIED = "{{function_node __wrapped__WriteFile_device_/job:localhost}} /root/x; Permission denied [Op:WriteFile] name: "


@pytest.mark.parametrize(
    "error, message",
    [
        (tf.errors.ResourceExhaustedError(None, None, GRAPH.format(OOM)), OOM),
        (tf.errors.PermissionDeniedError(None, None, DENIED), "/root/x; Permission denied"),
        (tf.errors.DataLossError(None, None, ""), "DataLossError"),
        (MemoryError(), "MemoryError"),
        (OSError(28, "No space left on device", "runs/x"), "[Errno 28] No space left on device: 'runs/x'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_machine_refuses_is_one_sentence(workplace, monkeypatch, error, message):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("tfsparse.experiments.experiment.train", refuse)
    done = invoke("train", workplace / "small.yaml")
    assert_refused(done)
    assert done.stderr == f"Error: {message}\n"


def test_bugs_keep_their_traceback(workplace, monkeypatch):
    monkeypatch.setattr("tfsparse.experiments.experiment.train", lambda *args, **kwargs: {}["bug"])
    done = invoke("train", workplace / "small.yaml")
    assert isinstance(done.exception, KeyError)


# ------------------------------------------------------------------------------------------------------------ mistakes

MISTAKES = [
    (["prune.sparsity=1.5"], "prune.sparsity=1.5: expected a fraction of zeros in [0, 1)"),
    (["prune.sparsity=-0.1"], "prune.sparsity=-0.1"),
    (["prune.sparsty=0.5"], "did you mean prune.sparsity?"),
    (["prune.schedule={name: one_cycle, start: 0.8, end: 0.2}"], "start=0.8, end=0.2"),
    (["prune.schedule={name: one_cycle, alpha: steep}"], "wrong type"),
    (["prune.schedule.gamma=3"], "has no option 'gamma'"),
    (["prune.schedule=one_cylce"], "Did you mean 'one_cycle'"),
    (["prune.pruner=magnitud"], "Did you mean 'magnitude'"),
    (["prune.pruner.scope=galaxy"], "scope='galaxy'"),
    (["prune.pruner.granularity=2:5:3"], "granularity"),
    (["data.name=digit"], "digits"),
    (["data.batch_size=5000"], "batch_size=5000"),
    (["model.name=lenet_300_10"], "lenet_300_100"),
    (["model.widhts=[3]"], "widths"),
    (["model.name=resnet_20", "model.widths=[3]"], "widths"),
    (["optimizer.name=adm"], "Did you mean 'adam'"),
    (["data.batch_size=1437"], "at least 2"),
    (["model.widths=[]", "prune.skip_first=true"], "othing to prune"),
]


@pytest.mark.parametrize("overrides, message", MISTAKES, ids=[" ".join(o) for o, _ in MISTAKES])
def test_mistakes_in_a_config_are_one_message(workplace, tmp_path, overrides, message):
    sets = [part for override in overrides for part in ("--set", override)]
    result = invoke("train", workplace / "small.yaml", "--out", tmp_path / "run", *sets)
    assert_refused(result, message)
    assert files(tmp_path) == []


def test_a_dataset_that_cannot_be_had(workplace, tmp_path, monkeypatch):
    import socket

    def offline(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    arguments = ("--out", tmp_path / "run", "--set", "data.name=mnist", "--set", f"data.dir={tmp_path / 'tfds'}")
    assert_refused(invoke("train", workplace / "small.yaml", *arguments), "'mnist' is not prepared")
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_read(workplace, tmp_path):
    (tmp_path / "broken.yaml").write_text("data: [1\n")
    (tmp_path / "broken.keras").write_bytes(b"PK no zip at all")
    assert_refused(invoke("train", tmp_path / "none.yaml"), "none.yaml: No such file")
    assert_refused(invoke("train", tmp_path / "broken.yaml"), "broken.yaml is not valid YAML in line 2")
    assert_refused(invoke("report", tmp_path / "none.keras"), "none.keras is not a file")
    assert_refused(invoke("report", tmp_path / "broken.keras"), "Cannot load")
    assert_refused(invoke("report", workplace / "seed0"), f"Did you mean {workplace / 'seed0' / 'model.keras'}?")
    assert_refused(invoke("compare", tmp_path), "holds no run")
    assert files(tmp_path) == [tmp_path / "broken.keras", tmp_path / "broken.yaml"]


def test_a_checkpoint_without_masks(workplace, tmp_path):
    """The optimizer's own variables are gone, as in a file that pruning has never seen."""
    import zipfile

    import h5py

    with zipfile.ZipFile(workplace / "seed0" / "model.keras") as whole:
        whole.extractall(tmp_path / "parts")
    with h5py.File(tmp_path / "parts" / "model.weights.h5", "a") as weights:
        for name in [key for key in weights["optimizer/vars"] if "mask" in key]:
            del weights[f"optimizer/vars/{name}"]
    with zipfile.ZipFile(tmp_path / "maskless.keras", "w") as archive:
        for path in (tmp_path / "parts").iterdir():
            archive.write(path, path.name)
    with pytest.warns(UserWarning, match="The masks of 'sparse_adam.*' are not loaded"):
        assert invoke("report", tmp_path / "maskless.keras").exit_code == 0


def test_runs_that_are_there_already_or_not_finished(workplace, tmp_path):
    again = ("train", workplace / "small.yaml", "--out", workplace / "seed0")
    before = files(workplace)
    assert_refused(invoke(*again), "already holds a run; add --overwrite")
    assert_refused(invoke(*again, "--resume", "--overwrite"), "pass only one of them")
    assert_refused(invoke(*again, "--resume", "--set", "epochs=2"), "epochs: 1 -> 2")
    run = json.loads((workplace / "seed0" / "run.json").read_text()) | {"status": "running"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert_refused(invoke("compare", tmp_path), f"tfsparse train --resume --out {tmp_path}")
    assert_refused(invoke("train", workplace / "small.yaml", "--out", tmp_path), "add --resume to continue it")
    assert files(workplace) == before


def test_wrong_options_and_commands():
    for arguments in (["train", "--nonsense"], ["trian"], ["compare"], ["report"]):
        assert invoke(*arguments).exit_code == 2


def test_a_plot_of_unknown_format(workplace, tmp_path):
    assert_refused(invoke("compare", workplace / "seed0", "--out", tmp_path / "plot.doc"), "plot.doc.png")
    assert files(tmp_path) == []


# ----------------------------------------------------------------------------------------------------- a real process


def test_the_command_itself_exits_with_2_and_one_message(tmp_path):
    done = shell("train", "--out", tmp_path / "run", "--set", "prune.schedule=one_cylce")
    assert (done.returncode, done.stdout, files(tmp_path)) == (2, "", [])
    assert done.stderr.startswith("Error: Unknown schedule 'one_cylce'") and done.stderr.count("\n") == 1


def test_version():
    from tfsparse.version import __version__

    assert invoke("--version").stdout == f"tfsparse {__version__}\n"
