"""What a config needs to know about a method that trains a model in stages and makes it smaller between them."""

import dataclasses
from typing import ClassVar, Literal

import pydantic
from pydantic import Field, StrictFloat, StrictInt, StrictStr

from tfsparse.experiments.method import DriverMethod, with_options
from tfsparse.experiments.sections import Section

_FOR_SCRIPTS = ("monitor", "seed")  # a run has a seed of its own, and always measures the accuracy
_STRICT_TYPES = {
    int: StrictInt,
    float: StrictFloat,
    str: StrictStr,
    int | None: StrictInt | None,
    float | None: StrictFloat | None,
    tuple[int, ...] | None: tuple[StrictInt, ...] | None,
}


def section(name: str, options: type, description: str) -> type[Section]:
    """Return the class of the section of a method.

    Args:
        name: Name of the class.
        options: Its `StageOptions`.
        description: Its docstring.
    """
    fields = [option for option in dataclasses.fields(options) if option.name not in _FOR_SCRIPTS]
    keys = {option.name: _key(option) for option in fields}
    return pydantic.create_model(name, __base__=Section, __doc__=description, **keys)


def _key(option: dataclasses.Field):
    """Return the type and the field of an option, as pydantic needs them."""
    limits, expected = option.metadata, option.metadata["expected"]
    choices = limits.get("choices")
    expected = f"null, or {expected}" if option.default is None else expected
    type_ = Literal[choices] if choices else _STRICT_TYPES[option.type]
    return type_, Field(option.default, ge=limits.get("least"), lt=limits.get("below"), description=expected)


class StagedMethod(DriverMethod):
    """A method whose driver is a `ShrinkingDriver`.

    Attributes:
        driver_class: The class of the driver.
    """

    driver_class: ClassVar[type]

    def label(self, section):
        defaults = {key: field.default for key, field in type(section).model_fields.items()}
        changed = [f"{key}={value}" for key, value in section if value != defaults[key]]
        return with_options(self.name.replace("_", " "), changed)

    def target_sparsity(self, section):
        return None

    def driver(self, config, model, directory):
        options = self.section(config).model_dump()
        driver = self.driver_class(model, **options, directory=directory, seed=config.seed)
        driver.check_epochs(0, config.epochs)
        return driver
