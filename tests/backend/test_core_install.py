"""`pip install tfsparse` in a clean environment: what it brings, what works with it, what names the line to run."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv

import pytest
from optional_packages import CORE, OPTIONAL

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a command of the environment outside of the repository."""
    folder = tmp_path_factory.mktemp("core")
    source = folder / "source"
    shutil.copytree(ROOT / "tfsparse", source / "tfsparse", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tfsparse_command.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "venv", with_pip=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(program, *arguments):
        command = [str(folder / "venv" / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)

    done = run("pip", "install", "-q", source)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's programs are in bin/")
def test_the_library_installs_and_runs_without_the_packages_of_the_laboratory(installed, tmp_path):
    packages = {p["name"].lower(): p["version"] for p in json.loads(installed("pip", "list", "--format=json").stdout)}
    print(len(packages), "packages:", *(f"{name} {version}" for name, version in packages.items()), sep="\n  ")
    assert not {*OPTIONAL.values()} & packages.keys()

    done = installed("python", "-c", f"OUT = {str(tmp_path / 'out')!r}\n{CORE}")
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "75.00%" in done.stdout and (tmp_path / "out" / "saved_model.pb").is_file()

    done = installed("tfsparse", "--help")
    print(done.stderr.splitlines()[-1])
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.endswith("Run: pip install 'tfsparse[cli]'\n")

    done = installed("python", "-c", "import tfsparse; tfsparse.OneCycle().plot()")
    print(done.stderr.splitlines()[-1])
    assert done.returncode == 1 and done.stderr.endswith("Run: pip install 'tfsparse[plot]'\n")
