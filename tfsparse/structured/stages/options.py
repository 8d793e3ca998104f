"""Options of trainings that shrink: a dataclass, from which a constructor and its docstring follow."""

import dataclasses
import inspect
import textwrap

from tfsparse.backend.registry import nearest


def option(default, expected: str, description: str, **limits):
    """Return a field of `StageOptions`.

    Args:
        default: Its default.
        expected: Which values it may have, in words.
        description: What it means, in words.
        **limits: What is checked: `least` and `below`, `choices`, or `valid`, a function of the value.

    Returns:
        A dataclass field.
    """
    return dataclasses.field(default=default, metadata={"expected": expected, "description": description, **limits})


def whole(default: int, description: str, least: int = 1):
    """Return the field of a whole number."""
    return option(default, f"a whole number of at least {least}, such as {default}", description, least=least)


def number(default: float, description: str):
    """Return the field of a number."""
    return option(default, f"a number of at least 0, such as {default}", description, least=0)


class StageOptions:
    """Base of a frozen dataclass of options, which are checked.

    Raises:
        ValueError: If an option has another value than its `metadata["expected"]` says.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (_is_valid(value, field) or (value is None and field.default is None)):
                raise ValueError(f"{field.name}={value!r}: expected {field.metadata['expected']}.")


def _is_valid(value, field) -> bool:
    limits = field.metadata
    if "valid" in limits:
        return limits["valid"](value)
    if "choices" in limits:
        return value in limits["choices"]
    if "least" not in limits:
        return isinstance(value, field.type)
    kind = int if field.type in (int, int | None) else (int, float)
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and limits["least"] <= value < limits.get("below", float("inf"))


def check_whole(name: str, value, least: int = 1) -> None:
    """Check an argument.

    Raises:
        ValueError: If `value` is not a whole number of at least `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}, such as {name}={least}.")


def check_names(function: str, arguments: dict, known: list[str]) -> None:
    """Check the names of arguments.

    Raises:
        TypeError: If one of them is not among the known ones.
    """
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise TypeError(
            f"{function}() has no argument {unknown[0]!r}: expected some of {', '.join(known)}."
            f"{nearest(unknown[0], known)}"
        )


def from_arguments(options: type, function: str, arguments: dict):
    """Return options made of the keyword arguments of a function.

    Raises:
        TypeError: If there is no option of a name.
        ValueError: If a value is not valid.
    """
    check_names(function, arguments, [field.name for field in dataclasses.fields(options)])
    return options(**arguments)


def with_options(options: type):
    """Return a decorator for a class whose constructor takes `**options`.

    It puts them into the signature, and into the docstring in place of `{options}`.
    """

    def decorate(cls):
        own = list(inspect.signature(cls).parameters.values())[:-1]  # without **options
        cls.__signature__ = inspect.Signature([*own, *inspect.signature(options).parameters.values()])
        rows = "\n".join(map(_row, dataclasses.fields(options)))
        cls.__doc__ = (cls.__doc__ or "").replace(" " * 8 + "{options}", rows)
        return cls

    return decorate


def _row(field):
    expected = field.metadata["expected"]
    text = f"{field.name}: {field.metadata['description']} Expected: {expected}. Default: {field.default!r}."
    return textwrap.fill(text, 112, initial_indent=" " * 8, subsequent_indent=" " * 12)
