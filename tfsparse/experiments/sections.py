"""The sections of a config: one pydantic class each. Error messages quote the description of a key.

The sections of the methods are in `tfsparse.experiments.methods`, and the whole config is in `run_config`.
"""

import math
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag


class ConfigError(ValueError):
    """A config cannot be read or does not say what it should. The message names the key and the line to write."""


class Section(pydantic.BaseModel):
    """Base of all sections. A key that the section does not have is an error, and so is a number that is not finite."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _finite(value):
    """Return the value of an option, whose type only the part that it belongs to knows."""
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in values):
        raise pydantic_core.PydanticCustomError("finite_number", "a finite number")
    return value


class Named(Section):
    """Base of sections that choose something by name, with options: `one_cycle`, or `{name: one_cycle, alpha: 14}`."""

    model_config = pydantic.ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, pydantic.AfterValidator(_finite)]]
    name: str = Field(description="a name, such as one_cycle")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value):
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """All keys but the name. YAML's lists become tuples."""
        return {key: tuple(value) if isinstance(value, list) else value for key, value in self.model_extra.items()}

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class MethodSection(Section):
    """Base of the sections of methods that prune kernels."""

    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


OptionalSparsity = Annotated[
    StrictFloat | None, Field(ge=0, lt=1, description="null, or a fraction of zeros in [0, 1), as 0.9")
]


class DataConfig(Section):
    """The data set; `dir` is the folder where TFDS reads and writes it."""

    name: str = Field(description="digits, or the name of an image dataset of TFDS, such as mnist")
    dir: str | None = Field(None, description="a folder of TFDS datasets, or null for TFDS_DATA_DIR")
    batch_size: StrictInt = Field(128, ge=1, description="a whole number of at least 1, such as 128")
    augment: Literal["pad_crop_flip"] | None = Field(None, description="null or pad_crop_flip")
    image_size: StrictInt | None = Field(None, ge=1, description="null, or a side in pixels, such as 224")
    standardize: StrictBool = Field(True, description="true, or false to leave pixels in [0, 1]")


class ModelConfig(Named):
    """The model: a name of `tfsparse.experiments.zoo.models.names()` and the options of that architecture."""


class OneCycleRateConfig(Section):
    """The learning rate of 1cycle: `{name: one_cycle, max: 0.1}`."""

    name: Literal["one_cycle"] = Field(description="one_cycle or steps; for a constant write the number alone")
    max: StrictFloat = Field(gt=0, description="the highest learning rate, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.25, gt=0, lt=1, description="a fraction of training in (0, 1), such as 0.25")
    initial_divisor: StrictFloat = Field(25.0, gt=0, description="max / first rate, a number above 0, such as 25")
    final_divisor: StrictFloat = Field(1e5, gt=0, description="max / last rate, a number above 0, such as 1e5")


class StepRateConfig(Section):
    """A learning rate that falls in steps: `{name: steps, first: 0.1, boundaries: [0.5, 0.75]}`."""

    name: Literal["steps"] = Field(description="steps or one_cycle; for a constant write the number alone")
    first: StrictFloat = Field(gt=0, description="the rate before the first step, a number above 0, such as 0.1")
    boundaries: tuple[StrictFloat, ...] = Field(
        description="rising fractions of training in (0, 1), such as [0.5, 0.75]"
    )
    factor: StrictFloat = Field(0.1, gt=0, description="what each step multiplies by, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.0, ge=0, lt=1, description="a fraction of training in [0, 1), such as 0.05")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_older_config(cls, value):
        if isinstance(value, dict) and "at" in value:  # the old name of `boundaries`
            return {"boundaries" if key == "at" else key: item for key, item in value.items()}
        return value


def _kind_of_rate(value):
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if isinstance(value, dict | Section):
        return "<steps>" if name == "steps" else "<one_cycle>"
    return "<number>"


LearningRate = Annotated[
    Annotated[StrictFloat, Tag("<number>"), Field(gt=0)]
    | Annotated[OneCycleRateConfig, Tag("<one_cycle>")]
    | Annotated[StepRateConfig, Tag("<steps>")],
    Discriminator(_kind_of_rate),
]
# The tags of the union above are in the locations of pydantic's errors, though not in the config
TAGS = {"<number>": None, "<one_cycle>": OneCycleRateConfig, "<steps>": StepRateConfig}


class OptimizerConfig(Named):
    """The optimizer: one of Keras or gsm, and its arguments. `momentum: one_cycle` follows the learning rate's cycle.

    With gsm and a compression above 1, the weights that are not kept are set to zero after the last step.
    """

    name: str = Field("sgd", description="gsm, or the name of a Keras optimizer, such as sgd or adam")
    learning_rate: LearningRate | None = Field(
        None, description="a number above 0 such as 0.1, {name: one_cycle, max: 0.1}, or {name: steps, ...}"
    )


class StartConfig(Section):
    """Initial weights and a fixed mask, each from the file of a model of the same shapes."""

    weights: str | None = Field(None, description="a file such as runs/base/model.keras, or null")
    mask: str | None = Field(None, description="a file such as runs/gsm/model.keras, whose zeros stay zero, or null")
