"""What the documents say must be so."""

import pathlib
import re
import tomllib

import tfsparse

ROOT = pathlib.Path(__file__).parent.parent
SILENT = r"\s*tfsparse\.(?:report|sizes|doctor|plan|frontier|sensitivity|inspect_tflite)\([^()]*\)\s*(?:#|$)"


def blocks(file, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


def test_ci_runs_the_command_of_the_readme():
    install_and_run, install_and_test = (b.strip() for b in blocks("README.md", "bash")[:2])
    assert "pytest" in install_and_test
    assert install_and_test in (ROOT / ".ci" / "run").read_text()
    assert "tfsparse train" in install_and_run


def test_every_public_name_is_in_the_list_of_all_names():
    names = (ROOT / "docs" / "api" / "index.md").read_text()
    missing = [n for n in tfsparse.__all__ if n not in names and n not in ("Report", "__version__")]
    assert not missing


def test_one_table_explains_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = re.findall(r"(?m)^\| `pip install -e '\.\[(\w+)\]'` \|", (ROOT / "docs" / "quick_start.md").read_text())
    assert sorted(rows) == sorted(project["optional-dependencies"])


def test_a_result_is_printed_and_not_only_made():
    """In a script a line `tfsparse.report(model)` shows nothing."""
    pages = [*(ROOT / "docs").glob("*.md")]
    code = [block for page in pages for block in blocks(page.relative_to(ROOT), "python")]
    assert len(code) > 20
    silent = [line for block in code for line in block.splitlines() if re.match(SILENT, line)]
    assert not silent


def test_links_lead_somewhere():
    for file in ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([\w./-]+)(?:#[\w-]+)?\)", (ROOT / file).read_text()):
            assert ((ROOT / file).parent / target).exists(), f"{file} links to {target}"
