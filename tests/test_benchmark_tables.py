"""Tables of the benchmarks: what stands between the markers, and nothing else, is theirs."""

import importlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

import tables


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    return tmp_path / "page.md"


def test_a_table_replaces_what_stands_between_its_markers(page):
    page.write_text("before\n<!-- table: a -->\nold\n<!-- end: a -->\nbetween\n<!-- table: b -->\nb\n<!-- end: b -->\n")
    tables.write("page.md", "a", tables.markdown(["x", ""], [["1", "±"]]))
    assert page.read_text(encoding="utf-8") == (
        "before\n<!-- table: a -->\n| x |  |\n|---|---|\n| 1 | ± |\n<!-- end: a -->\nbetween\n<!-- table: b -->\nb\n"
        "<!-- end: b -->\n"
    )


def test_a_page_without_the_markers_stays_as_it_is(page):
    page.write_text("all of it\n")
    with pytest.raises(ValueError, match="page.md has no place for it: add lines <!-- table: a -->"):
        tables.write("page.md", "a", "| x |")
    assert page.read_text() == "all of it\n"


def test_means_have_a_spread_only_where_there_are_several():
    assert (tables.mean([98.0]), tables.mean([98.0, 99.0])) == ("98.00", "98.50 ± 0.71")


@pytest.mark.parametrize("benchmark", ["recalibration", "sensitivity"])
def test_the_page_shows_the_results_that_are_there(benchmark):
    table = importlib.import_module(benchmark).table()
    page = (tables.ROOT / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    assert f"<!-- table: {benchmark} -->\n{table}\n<!-- end: {benchmark} -->\n" in page
