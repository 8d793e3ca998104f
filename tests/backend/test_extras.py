"""Optional packages."""

import math
import sys

import pytest

from tfsparse.backend import extras


def test_an_installed_package_is_returned():
    assert extras.require("math", "plot") is math
    assert extras.require("os.path", "plot").join("a", "b")


def test_a_missing_package_names_the_line_to_run():
    with pytest.raises(ImportError, match=r"needs no_such_package.inside, .* Run: pip install 'tfsparse\[plot\]'$"):
        extras.require("no_such_package.inside", "plot")


def test_an_error_inside_of_a_package_is_not_reworded(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="^No module named 'no_such_package'$"):
        extras.require("broken_package", "plot")
    assert "broken_package" not in sys.modules


def test_a_module_that_the_package_does_not_have_is_a_missing_package(monkeypatch):
    with pytest.raises(ImportError, match=r"pip install 'tfsparse\[cli\]'"):
        extras.require("math.no_such_module", "cli")
