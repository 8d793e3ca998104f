"""Read the config of a training run from YAML, change it, check it, and compare it with another."""

import copy
import difflib
import os
import pathlib
import typing
from collections.abc import Sequence

import pydantic
import yaml

from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import TAGS, ConfigError, Section
from tfsparse.experiments.yaml_loader import Loader

QUICK_START = pathlib.Path(__file__).with_name("configs") / "quickstart.yaml"
_MAX_SHOWN = 200  # characters of a wrong value in a message


def load(path: str | os.PathLike, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config from a YAML file.

    Args:
        path: The file.
        overrides: Changes, such as `"prune.sparsity=0.95"`. Default: none.

    Returns:
        The config.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, or is not a valid config.

    Examples:
        >>> load("configs/mnist_lenet300_one_cycle.yaml", ["prune.sparsity=0.95"]).prune.sparsity
        0.95
    """
    return validate(read(path), overrides, source=str(path))


def read(path: str | os.PathLike):
    """Read a YAML file, whatever it contains.

    Returns:
        The content: dicts, lists, strings, numbers, or None.

    Raises:
        ConfigError: If the file cannot be read or is not YAML.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise ConfigError(f"Cannot read the config {path}: {reason}. Pass the path of a YAML file.") from error
    return _yaml(text, str(path))


def validate(values: dict, overrides: Sequence[str] = (), source: str = "config") -> RunConfig:
    """Check the values of a config.

    Args:
        values: The config as a dict.
        overrides: Changes, such as `"prune.sparsity=0.95"`. Default: none.
        source: What error messages call the config. Default: "config".

    Returns:
        The config.

    Raises:
        ConfigError: If it is not a valid config. The message lists all errors.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds {_kind(values)}, expected sections such as\ndata:\n  name: digits")
    values = copy.deepcopy(values)
    for override in overrides:
        _set(values, override)
    try:
        return RunConfig.model_validate(values)
    except pydantic.ValidationError as error:
        problems = [_problem(details) for details in error.errors()]
        raise ConfigError("\n".join([f"{source} is not a valid config:", *(f"  {p}" for p in problems)])) from None


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return a line for each key in which two configs differ, such as `epochs: 10 -> 20`."""
    before, after = (_flat(c.model_dump(mode="json")) for c in (old, new))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


def _yaml(text, source):
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source} is not valid YAML{where}: {getattr(error, 'problem', None) or error}.") from None


def _set(values, override):
    key, equals, text = override.partition("=")
    *sections, last = path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {override!r} is not key=value; write e.g. --set prune.sparsity=0.95")
    for depth, section in enumerate(sections, start=1):
        inner = values.get(section)
        if isinstance(inner, str):  # the short form of a section with a name
            inner = {"name": inner}
        if not isinstance(inner, dict | None):
            above = ".".join(path[:depth])
            raise ConfigError(f"--set {override!r}: {above} is {inner!r} and has no keys; write e.g. --set {above}=...")
        values[section] = values = inner or {}
    values[last] = _yaml(text, f"--set {override!r}")


# ---------------------------------------------------------------------------------------------------------- messages


def _problem(details):
    location = [str(part) for part in details["loc"] if part not in TAGS]
    path, value = ".".join(location), details["input"]
    end = -2 if details["loc"][-1:] and details["loc"][-1] in TAGS else -1
    section = _section_at(details["loc"][:end])
    if details["type"] == "extra_forbidden":
        return _unknown_key(path, location, section)
    if details["type"] == "invalid_key":
        return f"{path} is not a key: keys are words."
    field = section.model_fields.get(location[-1]) if section and location else None
    expected = field.description if field else details["msg"]
    if details["type"] == "missing":
        return f"{path} is missing: expected {expected}."
    return f"{path}={_shortened(value)}: expected {expected}."


def _unknown_key(path, location, section):
    keys = list(section.model_fields)
    near = difflib.get_close_matches(location[-1], keys, n=1, cutoff=0.5)
    above = "".join(f"{part}." for part in location[:-1])
    hint = f"did you mean {above}{near[0]}? " if near else ""
    return f"{path} is not a key: {hint}The keys here are {', '.join(keys)}."


def _section_at(location):
    """Return the class of the section at a location of pydantic's error, or None if there is none."""
    section = RunConfig
    for part in location:
        field = section.model_fields.get(part) if section else None
        section = TAGS[part] if part in TAGS else _section_in(field.annotation) if field else None
    return section


def _section_in(annotation):
    """Return the section class inside of a type with unions and annotations, or None."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, typing.get_args(annotation))), None)


def _shortened(value):
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _kind(value):
    return "nothing" if value is None else f"a {type(value).__name__}"


def _flat(values, above=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat
