"""The installed command: what it does before the package is imported."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = """
import signal, sys
signal.signal(2, signal.default_int_handler)  # a shell that starts tests in the background ignores Ctrl-C
from tfsparse_command import main
sys.argv[0] = "tfsparse"
main()
"""
GREETING = "import os; os.write(2, b'greeting')"
COMMANDS = "import types; load = lambda: types.SimpleNamespace(report=lambda *arguments: {})"


@pytest.fixture
def start(tmp_path):
    """Start the command with a package `tfsparse` whose modules run these lines when they are imported."""

    def begin(*arguments, log_level=None, **lines):
        for name in ("__init__", "experiments/__init__", "experiments/cli"):
            path = tmp_path / "tfsparse" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines.get(name.replace("/", "_"), ""))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        environment |= {"TF_CPP_MIN_LOG_LEVEL": log_level} if log_level else {}
        command = [sys.executable, "-c", PROGRAM, *(arguments or ["report", "model.keras"])]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return begin


def ended(process):
    with process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("module", ["__init__", "experiments_cli"])
def test_ctrl_c_while_the_package_is_imported_ends_it_without_a_traceback(start, module):
    with start(**{module: "import time; print('importing', flush=True); time.sleep(60)"}) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGINT, "")


def test_the_command_runs_with_the_handler_of_before(start):
    command = COMMANDS.format("print(signal.getsignal(2) is signal.default_int_handler)")
    code, output, errors = ended(start(experiments_cli=f"import signal; {command}"))
    assert (code, output) == (0, "True\n"), errors


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]], ids=" ".join)
def test_help_and_version_do_not_wait_for_the_package(start, arguments):
    code, output, errors = ended(start(*arguments, __init__="raise SystemError('imported')"))
    assert (code, errors) == (0, "") and "tfsparse" in output


@pytest.mark.parametrize("log_level, shown", [(None, ""), ("3", ""), ("0", "greeting")])
def test_what_tensorflow_writes_when_it_is_imported_is_shown_only_if_asked_for(start, log_level, shown):
    process = start(__init__=GREETING, experiments_cli=COMMANDS.format("print('done')"), log_level=log_level)
    assert ended(process) == (0, "done\n", shown)


def test_what_was_hidden_is_shown_if_the_import_fails(start):
    code, _, errors = ended(start(__init__=f"{GREETING}; raise ImportError('no CPU for this')"))
    assert code == 1 and errors.startswith("greeting") and "no CPU for this" in errors
