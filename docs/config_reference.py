"""Writes the page of all keys of a config from the classes that check it. mkdocs calls it, see docs/hooks.py."""

import inspect
import typing

import yaml

from tfsparse import pruners, schedules
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import Section
from tfsparse.experiments.zoo import models
from tfsparse.optimizers import addons

_INTRODUCTION = """# YAML reference

Every key of a config for `tfsparse train`, from the classes that check it. In the command, `--set prune.sparsity=0.95`
sets a key. [What a config is](command_line.md#a-config)
"""


def page() -> str:
    """Return the page in Markdown."""
    parts = [_INTRODUCTION, "## The run\n", _table(RunConfig)]
    for key, section in _sections(RunConfig):
        parts += [f"## {key}\n", _text(section), _table(section)]
        for inner, subsection in _sections(section):
            named = subsection.model_fields["name"].annotation if "name" in subsection.model_fields else None
            names = [value for value in typing.get_args(named) if isinstance(value, str)]
            parts += [f"### {key}.{inner}{f': {names[0]}' if names else ''}\n", _text(subsection), _table(subsection)]
    parts += ["## Names\n"]
    known = {"schedules": schedules, "pruners": pruners, "add-ons": addons, "models": models}
    parts += [f"- {kind}: {', '.join(f'`{name}`' for name in room.names())}" for kind, room in known.items()]
    return "\n".join(parts) + "\n"


def _sections(section):
    """Return (key, class) of each section in a section, also those of a union."""
    return [(key, cls) for key, field in section.model_fields.items() for cls in _classes(field.annotation)]


def _classes(annotation):
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [cls for each in typing.get_args(annotation) for cls in _classes(each)]


def _text(section):
    return f"{inspect.cleandoc(section.__doc__ or '')}\n"


def _table(section):
    rows = ["| key | expected | default |", "|---|---|---|"]
    for key, field in section.model_fields.items():
        rows.append(f"| `{key}` | {field.description} | {_default(field)} |")
    if section.model_config.get("extra") == "allow":
        rows.append("| others | options of what `name` chooses |  |")
    return "\n".join(rows) + "\n"


def _default(field):
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return "see below"
    return f"`{yaml.safe_dump(value, default_flow_style=True).split(chr(10))[0]}`"
