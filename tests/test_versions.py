"""The lowest versions that pyproject.toml declares, and those that Colab ships, each in a clean environment."""

import glob
import os
import pathlib
import shutil
import sys
import tomllib

import clean_environment
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS = ["prune", "pll", "gsm", "dst", "activation_density", "tfmot"]
COLAB = ["tensorflow==2.20.*", "keras==3.13.2", "numpy==2.1.*", "tf_keras==2.20.*"]  # on Python 3.13


def lowest(extras) -> list[str]:
    """Each requirement of the package and these extras at its lower bound, which an extra may raise."""
    lines = sum((PROJECT["optional-dependencies"][extra] for extra in extras), PROJECT["dependencies"])
    bounds = {}
    for requirement in map(Requirement, lines):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds.setdefault(requirement.name, []).append(Version(specifier.version))
    return [f"{name}=={max(versions)}.*" for name, versions in bounds.items()]


def interpreter(version: str) -> str:
    """A Python of this version, else the one that runs."""
    installed = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))
    return next(iter(installed), None) or shutil.which(f"python{version}") or sys.executable


def environment(folder, python, extras, constraints):
    """Returns a function that runs programs of a new environment and returns what they print."""
    run = clean_environment.create(folder, extras, python, constraints)

    def checked(*command, **more):
        done = run(*command, TF_CPP_MIN_LOG_LEVEL="3", MPLBACKEND="Agg", **more)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return checked


def check_methods(run, folder):
    print(run("pip", "list", "--format=freeze"))
    for job in JOBS:
        (folder / job).mkdir()
        assert run("python", ROOT / "tests" / "smoke.py", job, folder / job).endswith(f"{job}: passed\n")


def check_command_line(run, folder):
    run("python", "-c", "import tensorflow_datasets; tensorflow_datasets.builder('mnist', data_dir='none')")
    run("tfsparse", "train", "--out", folder / "run", "--set", "epochs=2")
    run("tfsparse", "report", folder / "run", "--html", folder / "run.html")
    run("tfsparse", "compare", folder / "run", "--out", folder / "plot.png")
    run("tfsparse", "doctor", folder / "run" / "model.keras", "--no-measure")
    assert (folder / "run.html").stat().st_size and (folder / "plot.png").stat().st_size


@pytest.mark.exhaustive
def test_the_lowest_declared_versions(tmp_path):
    extras = ["pandas", "plot", "tensorboard", "tfmot", "zstd"]
    check_methods(environment(tmp_path, interpreter("3.11"), extras, lowest(extras)), tmp_path)


@pytest.mark.exhaustive
def test_the_lowest_declared_versions_of_the_command_line(tmp_path):
    run = environment(tmp_path, interpreter("3.11"), ["cli"], lowest(["cli", "plot"]))
    print(run("pip", "list", "--format=freeze"))
    check_command_line(run, tmp_path)


@pytest.mark.exhaustive
def test_the_lowest_declared_versions_for_jax(tmp_path):
    run = environment(tmp_path, interpreter("3.11"), ["jax"], lowest(["jax"]))
    print(run("pip", "list", "--format=freeze"))
    run("python", ROOT / "tests" / "smoke.py", "prune", tmp_path, KERAS_BACKEND="jax")


@pytest.mark.exhaustive
def test_the_versions_of_colab(tmp_path):
    run = environment(tmp_path, interpreter("3.13"), ["cli", "tfmot"], COLAB)
    check_methods(run, tmp_path)
    check_command_line(run, tmp_path)
