"""The documentation as a site, and what its pages tell people to write."""

import ast
import functools
import html
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys
import typing

import keras
import pytest
import typer

import tfsparse
from tfsparse.experiments import config
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import Section
from tfsparse_command.app import app

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tfsparse"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# "as for", and then the name of something that is documented elsewhere
POINTS_ELSEWHERE = re.compile(r"\b[Aa]s for\s+(?:`|[A-Z])|Args: as for")


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
    """Strict: a link, an anchor, an object or a documented argument that does not exist is an error."""
    assert (site / "index.html").is_file() and (site / "changelog" / "index.html").is_file()


def test_links_out_of_the_documentation_lead_to_the_repository(site):
    home, guide = ((site / page).read_text(encoding="utf-8") for page in ("index.html", "guide/index.html"))
    assert 'href="guide/"' in home and 'href="contributing/"' in home
    assert 'href="https://github.com/tfsparse/tfsparse/blob/main/notebooks/gsm.ipynb"' in guide


def test_examples_of_docstrings_are_code(site):
    text = (site / "api" / "callbacks" / "index.html").read_text(encoding="utf-8")
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text and "<blockquote>" not in text


def test_the_yaml_reference_has_every_key_of_a_config_and_what_is_expected(site):
    text = html.unescape((site / "config_reference" / "index.html").read_text(encoding="utf-8"))

    def check(section, above=""):
        for key, field in section.model_fields.items():
            assert f"<code>{key}</code></td>\n<td>{field.description}</td>" in text, f"{above}{key}"
            for inner in typing.get_args(field.annotation) or [field.annotation]:
                if isinstance(inner, type) and issubclass(inner, Section):
                    check(inner, f"{above}{key}.")

    check(RunConfig)


def tfmot_names():
    """The public names of `tfsparse.tfmot`, read from its files: its import would change what `tf.keras` is."""
    files = [PACKAGE / "tfmot" / "__init__.py", *(PACKAGE / "tfmot" / "methods").glob("*.py")]
    statements = [statement for file in files for statement in ast.parse(file.read_text(encoding="utf-8")).body]
    lists = [s.value for s in statements if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "__all__"]
    return {name for value in lists for name in ast.literal_eval(value)}


@pytest.fixture(scope="module")
def api():
    """The objects that the pages of the API show."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    return {name for page in pages for name in re.findall(r"(?m)^::: ([\w.]+)$", page.read_text(encoding="utf-8"))}


def test_every_public_name_is_on_a_page_of_the_api(api):
    names = {path.rpartition(".")[2] for path in api if not path.startswith("tfsparse.tfmot.")}
    assert {*tfsparse.__all__} - names == {"__version__"}


def test_every_public_name_of_the_tfmot_road_is_on_a_page_of_the_api(api):
    names = {path.rpartition(".")[2] for path in api if path.startswith("tfsparse.tfmot.")}
    assert {"prune_low_magnitude", "GSM"} < tfmot_names() <= names


def docstrings(file):
    """Every docstring of a file: the line of its object, and the text."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield getattr(node, "lineno", 1), ast.get_docstring(node)


def test_no_docstring_documents_by_pointing_elsewhere():
    """ "As for `Prune`" tells the reader to look up another name, and gives neither meaning nor range."""
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for line, text in docstrings(file)
        if POINTS_ELSEWHERE.search(text)
    ]
    assert not found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_documents_by_pointing_elsewhere(page):
    assert not POINTS_ELSEWHERE.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", ["schedule: as for `Prune`.", "Args: as for\n    Prune", "exclude: As for `GSM`"])
def test_pointing_elsewhere_is_recognised(text):
    assert POINTS_ELSEWHERE.search(text)
    assert not POINTS_ELSEWHERE.search("Compile inside the scope, as for dense training.")


def test_no_link_of_the_site_leads_to_a_missing_page(site):
    """Also the links that `docs/hooks.py` made of those for readers of the repository."""
    missing = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[#?"]', page.read_text(encoding="utf-8")):
            target = site / link.lstrip("/") if link.startswith("/") else page.parent / link
            if not target.exists():
                missing.append(f"{page.relative_to(site)} -> {link}")
    assert not missing


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
        path = PACKAGE.joinpath(*name.split(".")[1:-1])
        last = name.rpartition(".")[2]
        assert last in {"tfmot"} | tfmot_names() or (name.count(".") > 2 and path.with_suffix(".py").is_file())
        return
    parts = name.split(".")[1:]
    for count in range(len(parts), -1, -1):  # modules first: `export` is both a room and a function
        try:
            found = importlib.import_module(".".join(["tfsparse", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        assert functools.reduce(getattr, parts[count:], found) is not None
        return


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


def test_the_cheatsheet_s_arguments_are_ones(tmp_path):
    page = (ROOT / "docs" / "cheatsheet.md").read_text(encoding="utf-8")
    names = {"tfsparse": tfsparse, "keras": keras, "Prune": tfsparse.Prune, "path": tmp_path / "best.keras"}
    code = re.findall(r"`([^`\n]+)`", page)
    calls = [each for each in code if re.match(r"(tfsparse\.)?(Prune|Magnitude|AtTarget)\(", each)]
    assert len(calls) >= 7
    for each in calls:
        assert eval(each, names)


def figures():
    """Rows of the table for choosing and points of what is faster: their figures, and the page that they link to."""
    choosing, faster = ((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("choosing", "faster"))
    rows = [line.split("|", 3)[3] for line in choosing.split("\n\n")[2].splitlines()[2:]]
    for claim in (*rows, *re.findall(r"(?m)^- (?:.+\n)(?:  .+\n)*", faster)):
        text, page = re.fullmatch(r"(.*)\[[^]]*\]\((\w+\.md)\).*", claim, re.DOTALL).groups()
        yield from ((figure, page) for figure in re.findall(r"\d+\.\d+(?:x\b)?", text))


@pytest.mark.parametrize("figure, page", sorted({*figures()}))
def test_figures_are_those_of_the_page_that_they_link_to(figure, page):
    source = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", source)
