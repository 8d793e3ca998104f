"""Which checks there are."""

from collections.abc import Callable

import keras

from tfsparse.pruners import Pruner

_CHECKS: list[Callable[[Pruner], None]] = []


def check(function: Callable[[Pruner], None]) -> Callable[[Pruner], None]:
    """Decorator: the function is part of the battery."""
    _CHECKS.append(function)
    return function


def only(backend: str) -> Callable:
    """Decorator: the check means something on one backend alone."""

    def mark(function):
        function.backend = backend
        return function

    return mark


def checks() -> list[Callable[[Pruner], None]]:
    """The checks that apply to this backend: functions that take a pruner."""
    return [c for c in _CHECKS if getattr(c, "backend", keras.backend.backend()) == keras.backend.backend()]


def check_pruner(pruner: Pruner) -> None:
    """Run every check that applies to this backend.

    Raises: AssertionError saying which promise is broken.

    >>> check_pruner(tfsparse.Magnitude(scope="global"))
    """
    for run in checks():
        run(pruner)
