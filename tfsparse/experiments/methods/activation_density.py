"""Pruning by activation density: layers become narrower during training."""

import dataclasses
from typing import Literal

import pydantic
from pydantic import Field, StrictFloat, StrictInt

from tfsparse.experiments.method import DriverMethod, label_with_options
from tfsparse.experiments.sections import Section
from tfsparse.methods.activation_density import ActivationDensity
from tfsparse.methods.activation_density.options import Options

_FOR_SCRIPTS = ("monitor", "seed")  # a run has a seed of its own, and always measures the accuracy
_STRICT_TYPES = {
    int: StrictInt,
    float: StrictFloat,
    int | None: StrictInt | None,
    tuple[int, ...] | None: tuple[StrictInt, ...] | None,
}


def _key(option: dataclasses.Field):
    """Return the type and the field of an option, as pydantic needs them."""
    choices, expected = option.metadata.get("choices"), option.metadata["expected"]
    expected = f"null, or {expected}" if option.default is None else expected
    type_ = Literal[choices] if choices else _STRICT_TYPES[option.type]
    return type_, Field(option.default, ge=option.metadata.get("least"), description=expected)


ActivationDensityConfig = pydantic.create_model(
    "ActivationDensityConfig",
    __base__=Section,
    __doc__="The options of `tfsparse.ActivationDensity`, which makes layers narrower during training.",
    **{option.name: _key(option) for option in dataclasses.fields(Options) if option.name not in _FOR_SCRIPTS},
)


class _ActivationDensity(DriverMethod):
    name = "activation_density"
    section_class = ActivationDensityConfig
    description = "null, or a section such as {rounds: 2}"

    def label(self, section):
        return label_with_options("activation density", section)

    def target_sparsity(self, section):
        return None

    def driver(self, config, model, directory):
        options = config.activation_density.model_dump()
        driver = ActivationDensity(model, **options, directory=directory, seed=config.seed)
        driver.check_epochs(0, config.epochs)
        return driver


METHOD = _ActivationDensity()
