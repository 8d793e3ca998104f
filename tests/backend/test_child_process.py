"""Whatever a function does in a process of its own, this one lives on and is told."""

import os
import time

import pytest

from tfsparse.backend import child_process


def test_the_result_comes_from_another_process():
    assert child_process.call(os.getpid, seconds=60) not in (None, os.getpid())


def test_large_arguments_are_passed():
    assert child_process.call(len, bytes(10**7), seconds=60) == 10**7


def test_what_the_function_raises_is_raised():
    with pytest.raises(ValueError, match="invalid literal for int"):
        child_process.call(int, "seven", seconds=60)


@pytest.mark.parametrize(
    "function, arguments, seconds, message",
    [
        (os.abort, (), 60, r"^crashed \(SIGABRT\)$"),
        (os._exit, (3,), 60, "^ended with exit code 3: no message$"),
        (time.sleep, (60,), 0.5, "^took longer than 0.5 seconds$"),
    ],
)
def test_the_end_of_the_process_is_an_error(function, arguments, seconds, message):
    with pytest.raises(child_process.ChildDied, match=message):
        child_process.call(function, *arguments, seconds=seconds)


def test_what_cannot_be_pickled_is_an_error_of_the_process():
    with pytest.raises(child_process.ChildDied, match="cannot pickle"):
        child_process.call(open, os.devnull, seconds=60)
