"""A new virtual environment with the package, from its sources or a wheel, and no repository around it."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")  # besides the packages


def create(folder, extras=(), python=sys.executable, constraints=(), wheel=None):
    """Returns a function that runs a program of the environment in `folder` and returns the finished process."""
    programs, package = folder / "venv" / "bin", wheel or _sources(folder / "source")
    (folder / "constraints.txt").write_text("\n".join(constraints))
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KERAS_BACKEND")}

    def run(program, *arguments, **more):
        command = [str(programs / program), *map(str, arguments)]  # a program with a path of its own is run as it is
        return subprocess.run(
            command, cwd=folder, env=variables | more, capture_output=True, text=True, timeout=1800, check=False
        )

    package = f"{package}[{','.join(extras)}]" if extras else package
    uv = (sys.executable, "-m", "uv", "--quiet")  # installs what pip would, several times as fast
    for command in (
        (*uv, "venv", "--seed", "--python", python, programs.parent),
        (*uv, "pip", "install", "--python", programs / "python", "-c", "constraints.txt", package),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    return run


def _sources(folder):
    for package in ("tfsparse", "tfsparse_command"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    return folder
