"""Batteries: lists of checks that an object of one kind must pass."""

import warnings
from collections.abc import Callable

import keras

from tfsparse.pruners import Pruner


class Battery:
    """A list of checks: functions of one argument that raise AssertionError if it breaks a promise.

    Examples:
        >>> battery = Battery()
        >>> @battery.check
        ... def check_config(pruner): ...
        >>> battery.run(MyPruner())
    """

    def __init__(self):
        self._checks: list[Callable] = []

    def check(self, function: Callable) -> Callable:
        """Add a function to the battery; a decorator."""
        self._checks.append(function)
        return function

    def checks(self) -> list[Callable]:
        """Return the checks that apply to the Keras backend of this process."""
        backend = keras.backend.backend()
        return [check for check in self._checks if getattr(check, "backend", backend) == backend]

    def run(self, subject) -> None:
        """Call all checks that apply to this backend. What units miss in its small networks is not said."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*prunes whole units")
            for check in self.checks():
                check(subject)


def only(backend: str) -> Callable:
    """Restrict a check to one backend; a decorator."""

    def restrict(function):
        function.backend = backend
        return function

    return restrict


_pruner_battery = Battery()
check = _pruner_battery.check


def checks() -> list[Callable[[Pruner], None]]:
    """Return the checks for pruners that apply to the Keras backend of this process.

    Returns:
        Functions of a pruner. They raise AssertionError if the pruner breaks a promise.

    Examples:
        >>> @pytest.mark.parametrize("check", tfsparse.testing.checks(), ids=lambda check: check.__name__)
        ... def test_my_pruner(check):
        ...     check(MyPruner())
    """
    return _pruner_battery.checks()


def check_pruner(pruner: Pruner) -> None:
    """Run all checks for pruners that apply to the Keras backend of this process.

    Args:
        pruner: An instance of a registered class.

    Raises:
        AssertionError: If the pruner breaks a promise. The message says which.

    Examples:
        >>> check_pruner(tfsparse.Magnitude(scope="layer"))
    """
    _pruner_battery.run(pruner)
