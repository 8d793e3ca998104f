"""The source distribution, with which anyone can run the tests and build the documentation, and the wheel."""

import email
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import clean_environment
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns("__pycache__", ".*cache", ".venv", ".git", "runs", "site", "build", "*.egg-info")


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the repository without what is generated."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("project") / "project", ignore=NOT_SOURCES)


@pytest.fixture(scope="module")
def distributions(project):
    """The source distribution and the wheel that is built from it."""
    run(sys.executable, "-m", "build", "--outdir", project.parent / "dist", cwd=project)
    return {"".join(path.suffixes)[-4:]: path for path in (project.parent / "dist").iterdir()}


@pytest.mark.exhaustive
def test_the_source_distribution_holds_the_whole_project(project, distributions):
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    with tarfile.open(distributions["r.gz"]) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert files - packed == set()


@pytest.mark.exhaustive
def test_a_registry_accepts_both_and_the_wheel_holds_only_the_package(project, distributions):
    run(sys.executable, "-m", "twine", "check", "--strict", *distributions.values())
    run(pathlib.Path(sys.executable).parent / "check-wheel-contents", distributions[".whl"], cwd=project)


@pytest.mark.exhaustive
def test_the_wheel_describes_the_project_as_the_readme_does_with_absolute_links(distributions):
    with zipfile.ZipFile(distributions[".whl"]) as wheel:
        (metadata,) = [wheel.read(name) for name in wheel.namelist() if name.endswith("/METADATA")]
    message = email.message_from_bytes(metadata)
    assert message["Description-Content-Type"] == "text/markdown"
    assert message.get_payload(decode=True).decode().strip() == description().strip()


@pytest.mark.exhaustive
def test_the_quick_start_runs_from_the_wheel_outside_of_the_repository(distributions, tmp_path):
    installed = clean_environment.create(tmp_path, ["cli"], wheel=distributions[".whl"])
    page = (ROOT / "docs" / "quick_start.md").read_text(encoding="utf-8")
    blocks = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "testing." not in code]
    (tmp_path / "quick_start.py").write_text("\n".join(blocks))
    done = installed("python", "quick_start.py")
    assert done.returncode == 0 and "90.00%" in done.stdout, done.stderr[-4000:]
    assert installed("tfsparse", "--version").stdout.startswith("tfsparse ")
    done = installed("tfsparse", "train", "--set", "epochs=1", "--out", "run")
    assert done.returncode == 0 and (tmp_path / "run" / "model.keras").is_file(), done.stderr[-4000:]


def description():
    """The README with the substitutions of pyproject.toml: what a registry shows."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for substitution in tool["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    return text


def test_the_description_for_a_registry_has_absolute_links_to_files_that_exist():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    links = re.findall(r"\]\(([^)]+)\)", description())
    assert links and all(link.startswith("https://") for link in links)
    ours = [link.removeprefix(urls["Repository"]) for link in links if link.startswith(urls["Repository"])]
    assert "/raw/main/docs/first_screen.png" in ours and "/blob/main/docs/tfmot.md#what-changes" in ours
    assert [link for link in ours if not (ROOT / link.split("/", 3)[3].partition("#")[0]).exists()] == []


def test_the_address_of_the_repository_is_that_of_pyproject():
    """To change it, change it there, and in the files that this test names."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    path = urls["Repository"].removeprefix("https://github.com/")
    files = [ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    address = re.compile(rf"github(?:\.com)?/([\w.-]+/{path.partition('/')[2]})\b")
    found = {(file.name, each) for file in files for each in address.findall(file.read_text(encoding="utf-8"))}
    assert {each for _, each in found} == {path}, found
