"""The installed command: what it does before the package is imported."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = "import signal; signal.signal(2, signal.default_int_handler); from tfsparse_command import main; main()"


@pytest.fixture
def start(tmp_path):
    """Start the command with a package `tfsparse` whose modules run these lines when they are imported."""

    def begin(**lines):
        for name in ("__init__", "experiments/__init__", "experiments/cli"):
            path = tmp_path / "tfsparse" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines.get(name.replace("/", "_"), ""))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, **pipes)

    return begin


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("module", ["__init__", "experiments_cli"])
def test_ctrl_c_while_the_package_is_imported_ends_it_without_a_traceback(start, module):
    with start(**{module: "import time; print('importing', flush=True); time.sleep(60)"}) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGINT, "")


def test_the_command_line_runs_with_the_handler_of_before(start):
    command = "lambda: print(signal.getsignal(2) is signal.default_int_handler)"
    with start(experiments_cli=f"import signal; load = lambda: {command}") as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "True\n"), errors
