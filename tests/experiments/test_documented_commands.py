"""What the pages tell people to type, typed in the order in which it stands there; only what it reads is shortened."""

import glob
import pathlib
import re
import runpy
import shlex
import shutil
import sys

import numpy as np
import pytest
import yaml
from thoroughly import also
from typer.testing import CliRunner

import tfsparse
from tfsparse import testing
from tfsparse.experiments import config
from tfsparse_command.app import app

ROOT = pathlib.Path(__file__).parents[2]
MORE_PAGES = [f"docs/{page}.md" for page in ("command_line", "comparison", "doctor", "migrate", "quick_start")]
PAGES = ["README.md", *also(MORE_PAGES)]
BEFORE = {"docs/doctor.md": [["train", "configs/mnist_lenet300_one_cycle.yaml", "--out", "runs/mnist"]]}
BENCHMARKS = ["activation_density", "cifar", "comparison", "doctor_page", "durations", "evidence"]
BENCHMARKS += ["mnist", "mnist_dst", "mnist_gsm", "pll"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """The words after every `tfsparse` of a page."""
    for line in "".join(blocks(page, "bash")).splitlines():
        if found := re.search(r"(?:^|[/ ])tfsparse (?!-)(.*)", line):
            yield shlex.split(found[1], comments=True)


def shortened(content):
    """A config, or a file for the matrix, of one epoch of digits."""
    short = {"epochs": 1, "data": {"name": "digits", "batch_size": 128}}
    if "methods" not in content:
        return content | short
    methods = dict(list(content["methods"].items())[:2])
    return content | {"base": content["base"] | short, "methods": methods, "sparsities": [0.9], "seeds": [0]}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """What a reader has: the configs, a model and a script of their own, and files from somebody else."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(config.QUICK_START, tmp_path / "configs" / "quick_start.yaml")
    for file in (tmp_path / "configs").rglob("*.yaml"):
        file.write_text(yaml.safe_dump(shortened(yaml.safe_load(file.read_text(encoding="utf-8")))))
    model = testing.small_model()
    tfsparse.prune(model, 0.8)
    model.save(tmp_path / "model.keras")
    tfsparse.export_tflite(model, tmp_path / "theirs.tflite")
    tfsparse.export(model, tmp_path / "theirs_savedmodel", dense=True)
    np.save(tmp_path / "examples.npy", np.random.default_rng(0).uniform(size=(20, 8, 8, 1)))
    shutil.copy(pathlib.Path(__file__).parent / "migrate" / "own_loop.py", tmp_path / "train_with_tfmot.py")
    monkeypatch.setattr(config, "QUICK_START", tmp_path / "configs" / "quick_start.yaml")
    monkeypatch.chdir(tmp_path)


def assert_carried_out(words):
    """One command; a pattern becomes the files that are there, as in a shell."""
    words = [word for each in words for word in sorted(glob.glob(each)) or [each]]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"tfsparse {shlex.join(words)}\n{done.output}\n{done.exception}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_work_in_their_order(page, workplace):
    for code in blocks(page, "python"):
        if "mine.keras" in code:  # the model of the commands after it
            exec(compile(re.sub(r"epochs=\d+", "epochs=2", code), page, "exec"), {})
    for words in (*BEFORE.get(page, []), *commands(page)):
        assert_carried_out(words)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_tables_are_those_of_the_runs_in_the_repository(name, tmp_path, monkeypatch):
    """`python benchmarks/NAME.py --tables` finds nothing to change."""
    for folder in ("benchmarks", "docs", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.png", "__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    for module in [path.stem for path in (ROOT / "benchmarks").glob("*.py")]:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "benchmarks")
    monkeypatch.setattr(sys, "argv", [name, "--tables"])
    runpy.run_path(str(tmp_path / "benchmarks" / f"{name}.py"), run_name="__main__")
    pages = [path for folder in (tmp_path, tmp_path / "benchmarks", tmp_path / "docs") for path in folder.glob("*.md")]
    for page in pages:
        assert page.read_text(encoding="utf-8") == (ROOT / page.relative_to(tmp_path)).read_text(encoding="utf-8")
