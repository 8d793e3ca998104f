"""The import of the package: Ctrl-C ends it without a word, and TensorFlow does not greet."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import types


def load_commands() -> types.ModuleType:
    """Return the module `tfsparse.experiments.commands`; without its packages print how to get them."""
    with _ctrl_c_ends_the_process(), _no_greeting():
        from tfsparse.experiments import cli

        return cli.load()


@contextlib.contextmanager
def _ctrl_c_ends_the_process():
    """Let Ctrl-C end the process at once, where it would print the traceback of an import."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _no_greeting():
    """Hide what TensorFlow writes while it is imported, unless TF_CPP_MIN_LOG_LEVEL is 0 or an import fails.

    TensorFlow writes its first lines before it reads that variable, whatever its value is.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden, _stderr_to(hidden.fileno()) as stderr:
        try:
            yield
        except BaseException:
            hidden.seek(0)
            with open(stderr, "wb", closefd=False) as shown:
                shutil.copyfileobj(hidden, shown)
            raise


@contextlib.contextmanager
def _stderr_to(descriptor):
    """Redirect the error output of the process, also that of its C++ code; yield where it went before."""
    before = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield before
    finally:
        os.dup2(before, 2)
        os.close(before)
