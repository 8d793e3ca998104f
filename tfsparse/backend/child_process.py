"""Functions that run in a process of their own, so that a crash or an endless loop ends no other."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable


class ChildDied(RuntimeError):
    """The process crashed, or took too long; the message says which."""


def call(function: Callable, *arguments, seconds: float):
    """Call a function in a new Python process, and wait for its result.

    Args:
        function: A function of a module that can be imported.
        *arguments: Its arguments; what can be pickled.
        seconds: Longest time that the process may take.

    Returns:
        What the function returns.

    Raises:
        ChildDied: If the process crashes or takes longer.
        Exception: What the function raises.

    Examples:
        >>> call(os.abort, seconds=60)
        Traceback (most recent call last):
        ChildDied: crashed (SIGABRT)
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answered = pathlib.Path(folder, "question"), pathlib.Path(folder, "answer")
        question.write_bytes(pickle.dumps((function, arguments)))
        command = [sys.executable, "-P", __file__, str(question), str(answered)]  # -P: no module beside this one
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            process = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise ChildDied(f"took longer than {seconds:g} seconds") from None
        if process.returncode:
            raise ChildDied(_how_it_ended(process))
        result, error = pickle.loads(answered.read_bytes())
    if error is not None:
        raise error
    return result


def _how_it_ended(process):
    if process.returncode < 0:
        return f"crashed ({signal.Signals(-process.returncode).name})"
    lines = process.stderr.decode(errors="replace").strip().splitlines()
    return f"ended with exit code {process.returncode}: {lines[-1] if lines else 'no message'}"


def _answer(question, answered):
    """Call the function in the first file, and write what it returns or raises to the second."""
    function, arguments = pickle.loads(question.read_bytes())
    try:
        result = function(*arguments), None
    except Exception as error:
        result = None, error
    answered.write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _answer(*map(pathlib.Path, sys.argv[1:]))
