"""The source distribution: whoever has it can run the tests and build the documentation."""

import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns("__pycache__", ".*cache", ".venv", ".git", "*.egg-info", "runs", "site", "build")


@pytest.mark.exhaustive
def test_the_source_distribution_holds_the_whole_project(tmp_path):
    project, target = tmp_path / "project", tmp_path / "dist"
    shutil.copytree(ROOT, project, ignore=NOT_SOURCES)
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", target]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(target.iterdir())) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert files - packed == {".gitignore"}
