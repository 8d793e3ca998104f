"""The documentation as a site, and what its pages tell people to write."""

import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import typer

import tfsparse
from tfsparse.experiments import config
from tfsparse.experiments.commands import app

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands():
    """Every `tfsparse` command of all pages: its page and its words."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                found = re.search(r"(?:^|[/ ])tfsparse (?!-)(.*)", line)
                if found:
                    yield pytest.param(shlex.split(found[1], comments=True), id=f"{page.name}: {found[1][:60]}")


def names():
    """Every `tfsparse.something` that a page's code mentions."""
    for page in PAGES:
        for code in (*blocks(page, "python"), *re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))):
            yield from re.findall(r"(?<![\w./-])tfsparse((?:\.\w+)+)(?![\w/-])", code)


# ---------------------------------------------------------------------------------------------------------- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not importlib.util.find_spec("mkdocs"):
        pytest.skip("mkdocs is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "mkdocs.yml", "-d", folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_strictly(site):
    """Strict: a link, an anchor or an object that is not there is an error."""
    assert (site / "index.html").is_file() and (site / "changelog" / "index.html").is_file()


def test_links_out_of_the_documentation_lead_to_the_repository(site):
    home, guide = ((site / page).read_text(encoding="utf-8") for page in ("index.html", "guide/index.html"))
    assert 'href="guide/"' in home and 'href="contributing/"' in home
    assert 'href="https://github.com/tfsparse/tfsparse/blob/main/notebooks/gsm.ipynb"' in guide


def test_examples_of_docstrings_are_code(site):
    text = (site / "api" / "callbacks" / "index.html").read_text(encoding="utf-8")
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text and "<blockquote>" not in text


def test_every_public_name_is_on_a_page_of_the_api():
    shown = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    missing = [name for name in tfsparse.__all__ if not re.search(rf"::: tfsparse(\.\w+)*\.{name}\n", shown)]
    assert missing == ["__version__"]


def test_the_api_shows_functions_and_not_modules_of_the_same_name(site):
    modules = [
        p.parent.name for p in (site / "api").glob("*/index.html") if "doc-module" in p.read_text(encoding="utf-8")
    ]
    assert modules == ["testing"]


# ------------------------------------------------------------------------------------------------- what one would write


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page):
    for code in blocks(page, "python"):
        assert compile(code, page.name, "exec")


@pytest.mark.parametrize("name", sorted({*names()}))
def test_names_exist(name):
    if name.startswith(".tfmot"):  # whose import changes what tf.keras is
        lines = (ROOT / "tfsparse" / "tfmot" / "__init__.py").read_text()
        assert name.count(".") > 2 or f'"{name.split(".")[-1]}"' in lines or name == ".tfmot"
        return
    found, module = tfsparse, "tfsparse"
    for part in name.split(".")[1:]:
        module += f".{part}"
        if not hasattr(found, part):
            importlib.import_module(module)
        found = getattr(found, part)


@pytest.mark.parametrize("words", [*commands()])
def test_commands_are_ones(words):
    """Options and arguments are known, and what a config is set to is valid."""
    group = typer.main.get_command(app)
    command = group.commands[words[0]]
    options = command.make_context(words[0], words[1:]).params
    if words[0] == "train":
        source = options["config"] and ROOT / "configs" / options["config"].name  # some pages go elsewhere first
        assert config.load(source or config.QUICK_START, options["set_"] or []).epochs > 0


@pytest.mark.parametrize("name", ["quick_start", "loops", "own_method"])
def test_pages_that_can_be_run_as_they_stand(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for code in blocks(ROOT / "docs" / f"{name}.md", "python"):
        if "check" not in code or "checkpoint" in code:  # the battery takes minutes, and has tests of its own
            exec(compile(code, name, "exec"), scope)
    shown = capsys.readouterr().out
    assert {"quick_start": "90.00%", "loops": "4 0.9", "own_method": ""}[name] in shown


def figures():
    """Rows of the table for choosing, points of what is faster and of what was not reproduced: their figures, and the
    page that they link to."""
    pages = ROOT / "docs" / "choosing.md", ROOT / "docs" / "faster.md", ROOT / "README.md"
    choosing, faster, readme = (page.read_text(encoding="utf-8") for page in pages)
    rows = [line.split("|", 3)[3] for line in choosing.split("\n\n")[2].splitlines()[2:]]
    missed = readme.partition("## Not reproduced\n")[2].partition("\n## ")[0]
    measured, unmet = (re.findall(r"(?m)^- (?:.+\n)(?:  .+\n)*", text) for text in (faster, missed))
    for claim in (*rows, *measured, *(point for point in unmet if ".md)" in point)):
        text, page = re.fullmatch(r"(.*)\[[^]]*\]\((?:docs/)?(\w+\.md)\).*", claim, re.DOTALL).groups()
        yield from ((figure, page) for figure in re.findall(r"\d+\.\d+(?:x\b)?", text))


@pytest.mark.parametrize("figure, page", sorted({*figures()}))
def test_figures_are_those_of_the_page_that_they_link_to(figure, page):
    source = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", source)
