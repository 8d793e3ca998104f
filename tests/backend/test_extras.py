"""Optional packages."""

import math
import subprocess
import sys

import pytest
from optional_packages import CORE, blocked

from tfsparse.backend import extras


def test_an_installed_package_is_returned():
    assert extras.require("math", "plot") is math
    assert extras.require("os.path", "plot").join("a", "b")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.inside", "math.no_such_module"])
def test_a_missing_package_names_the_line_to_run(module):
    with pytest.raises(extras.MissingExtra, match=r"needs \w+.*, .* Run: pip install 'tfsparse\[plot\]'$"):
        extras.require(module, "plot")


def test_what_an_installed_package_misses_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="^No module named 'no_such_package'$"):
        extras.require("broken_package", "plot")
    assert "broken_package" not in sys.modules


def test_a_module_of_tfsparse_that_does_not_exist_is_no_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="tfsparse.no_such_module"):
        extras.require("tfsparse.no_such_module", "cli")


def run(*lines, out="out"):
    """A process without any optional package."""
    code = "\n".join([blocked(), f"OUT = {str(out)!r}", *lines])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_pruning_report_and_export_need_no_optional_package_and_not_the_laboratory(tmp_path):
    done = run(
        CORE,
        "import sys; print([name for name in sys.modules if name.startswith('tfsparse.experiments')])",
        out=tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    assert "75.00%" in done.stdout and done.stdout.endswith("[]\n")
    assert (tmp_path / "out" / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def errors():
    """What a process without optional packages raises, by the line that it ran."""
    model = "import keras, tfsparse; model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1024)])"
    done = run(
        model, f"for line in {[*EXTRAS]}:\n  try: eval(line)\n  except Exception as e: print(line, repr(e), sep=';')"
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(";") for line in done.stdout.splitlines())


EXTRAS = {
    "tfsparse.OneCycle().plot()": "plot",
    "tfsparse.Channels(model).plot()": "plot",
    "tfsparse.SparsityLogger('logs')": "tensorboard",
    "tfsparse.plan('config.yaml')": "cli",
    "tfsparse.plan(model, 'savedmodel').yaml()": "cli",
    "__import__('tfsparse.reporting.page').reporting.page.render(model=model)": "cli",
}


@pytest.mark.parametrize("line", EXTRAS)
def test_what_needs_an_optional_package_says_which_line_installs_it(errors, line):
    assert "MissingExtra(" in errors[line]
    assert f"which is not installed. Run: pip install 'tfsparse[{EXTRAS[line]}]'" in errors[line]


def test_the_command_line_without_its_packages_is_one_line():
    done = run("import sys; sys.argv = ['tfsparse', '--help']", "from tfsparse_command import main; main()")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Error: This needs typer, which is not installed. Run: pip install 'tfsparse[cli]'"
    )
