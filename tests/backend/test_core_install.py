"""`pip install tfsparse` in a clean environment: what it brings, what works with it, what names the line to run."""

import json
import sys

import clean_environment
import pytest
from optional_packages import CORE, OPTIONAL


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a command of the environment outside of the repository."""
    return clean_environment.create(tmp_path_factory.mktemp("core"))


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
