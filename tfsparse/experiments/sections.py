"""The sections of a config: one pydantic class each. The description of a key is what messages say was expected."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag


class Section(pydantic.BaseModel):
    """A part of a config; keys that it does not know are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Named(Section):
    """A thing chosen by name, with its own options beside it: `one_cycle`, or `{name: one_cycle, alpha: 14}`."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="a name, such as one_cycle")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value):
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """What was written beside the name; a YAML list is a tuple."""
        return {key: tuple(value) if isinstance(value, list) else value for key, value in self.model_extra.items()}

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class DataConfig(Section):
    """What to train on; `dir` is where TFDS finds or puts it."""

    name: str = Field(description="digits, or the name of an image dataset of TFDS, such as mnist")
    dir: str | None = Field(None, description="a folder of TFDS datasets, or null for TFDS_DATA_DIR")
    batch_size: StrictInt = Field(128, ge=1, description="a whole number of at least 1, such as 128")
    augment: Literal["pad_crop_flip"] | None = Field(None, description="null or pad_crop_flip")
    image_size: StrictInt | None = Field(None, ge=1, description="null, or a side in pixels, such as 224")
    standardize: StrictBool = Field(True, description="true, or false to leave pixels in [0, 1]")


class ModelConfig(Named):
    """What to train: a name of `tfsparse.experiments.zoo.models.names()` and the options of that architecture."""


class OneCycleRateConfig(Section):
    """The learning rate of 1cycle: `{name: one_cycle, max: 0.1}`."""

    name: Literal["one_cycle"] = Field(description="one_cycle or steps; for a constant write the number alone")
    max: StrictFloat = Field(gt=0, description="the highest learning rate, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.25, gt=0, lt=1, description="a fraction of training in (0, 1), such as 0.25")
    initial_divisor: StrictFloat = Field(25.0, gt=0, description="max / first rate, a number above 0, such as 25")
    final_divisor: StrictFloat = Field(1e5, gt=0, description="max / last rate, a number above 0, such as 1e5")


class StepRateConfig(Section):
    """A learning rate that falls in steps: `{name: steps, first: 0.1, at: [0.5, 0.75]}`."""

    name: Literal["steps"] = Field(description="steps or one_cycle; for a constant write the number alone")
    first: StrictFloat = Field(gt=0, description="the rate before the first step, a number above 0, such as 0.1")
    at: tuple[StrictFloat, ...] = Field(description="rising fractions of training in (0, 1), such as [0.5, 0.75]")
    factor: StrictFloat = Field(0.1, gt=0, description="what each step multiplies by, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.0, ge=0, lt=1, description="a fraction of training in [0, 1), such as 0.05")


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
# pydantic puts these into the places of errors, where no user wrote them
TAGS = {"<number>": None, "<one_cycle>": OneCycleRateConfig, "<steps>": StepRateConfig}


class OptimizerConfig(Named):
    """How to train: a Keras optimizer or gsm, and its arguments; `momentum: one_cycle` mirrors the learning rate.

    With gsm and a compression above 1 the model is cut to it after the last step.
    """

    name: str = Field("sgd", description="gsm, or the name of a Keras optimizer, such as sgd or adam")
    learning_rate: LearningRate | None = Field(
        None, description="a number above 0 such as 0.1, {name: one_cycle, max: 0.1}, or {name: steps, ...}"
    )


class StartConfig(Section):
    """Where training starts, instead of the weights that the seed gives; both are files of models like this one."""

    weights: str | None = Field(None, description="a file such as runs/base/model.keras, or null")
    mask: str | None = Field(None, description="a file such as runs/gsm/model.keras, whose zeros stay zero, or null")


class ScheduleConfig(Named):
    """When: a name of `tfsparse.schedules.names()` and its options."""

    name: str = Field("one_cycle", description="the name of a schedule, such as one_cycle")


class PrunerConfig(Named):
    """By what: a name of `tfsparse.pruners.names()` and its options."""

    name: str = Field("magnitude", description="the name of a pruner, such as magnitude")


class PruneConfig(Section):
    """How sparse, when and by what."""

    sparsity: StrictFloat = Field(ge=0, lt=1, description="a fraction of zeros in [0, 1), such as 0.9 for 90 %")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="one_cycle, or {name: one_cycle, alpha: 14}")
    pruner: PrunerConfig = Field(PrunerConfig(), description="magnitude, or {name: magnitude, scope: global}")
    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


class DSTConfig(Section):
    """How strongly trained thresholds are pushed to prune: by a fixed alpha, or by the one that leads to a sparsity."""

    sparsity: StrictFloat | None = Field(None, ge=0, lt=1, description="null, or a fraction of zeros in [0, 1), as 0.9")
    alpha: StrictFloat = Field(5e-4, ge=0, description="a number of at least 0, such as 5e-4")
    threshold: Literal["vector", "scalar", "matrix"] = Field("vector", description="vector, scalar or matrix")
    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


class PLLConfig(Section):
    """When and how much the curvature of the loss on the first batch prunes: arguments of `tfsparse.PLL`."""

    sparsity: StrictFloat | None = Field(None, ge=0, lt=1, description="null, or a fraction of zeros in [0, 1), as 0.9")
    every: StrictInt | None = Field(None, ge=1, description="null, or a whole number of steps, such as 50")
    start: Literal["peak"] | StrictFloat = Field("peak", description="peak, or a fraction of training, such as 0.1")
    end: StrictFloat = Field(0.5, gt=0, le=1, description="a fraction of training in (0, 1], such as 0.5")
    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


class ActivationDensityConfig(Section):
    """How the network shrinks while it trains: the arguments of `tfsparse.ActivationDensity`."""

    rounds: StrictInt = Field(3, ge=1, description="a whole number of at least 1, such as 3")
    weights: Literal["inherit", "reinit"] = Field("inherit", description="inherit or reinit")
    saturation: StrictFloat = Field(0.01, ge=0, description="a difference of densities of at least 0, such as 0.01")
    window: StrictInt = Field(5, ge=1, description="a whole number of at least 1, such as 5")
    min_epochs: StrictInt = Field(10, ge=1, description="a whole number of at least 1, such as 10")
    max_epochs: StrictInt | None = Field(None, ge=1, description="null, or a whole number, such as 20")
    prune_epochs: tuple[StrictInt, ...] | None = Field(None, description="null, or rising epochs such as [10, 20]")
    smallest: StrictInt = Field(8, ge=1, description="a whole number of at least 1, such as 8")
    multiple: StrictInt = Field(1, ge=1, description="a whole number of at least 1, such as 8")
    tolerance: StrictFloat = Field(0.02, ge=0, description="a difference of accuracies of at least 0, such as 0.02")
    examples: StrictInt = Field(5000, ge=1, description="a whole number of at least 1, such as 5000")


class RunConfig(Section):
    """A whole run. Without a section of a method and an optimizer that prunes it is dense."""

    name: str = Field("run", description="a name for the run, such as mnist-lenet300")
    seed: StrictInt = Field(0, ge=0, lt=2**31, description="a whole number of at least 0, such as 0")
    epochs: StrictInt = Field(ge=1, description="a whole number of at least 1, such as 10")
    data: DataConfig = Field(description="a section such as {name: mnist}")
    model: ModelConfig = Field(description="a section such as {name: lenet_300_100}")
    start: StartConfig = Field(StartConfig(), description="a section such as {weights: runs/base/model.keras}")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="a section such as {name: adam}")
    prune: PruneConfig | None = Field(None, description="null for dense, or a section such as {sparsity: 0.9}")
    dst: DSTConfig | None = Field(None, description="null, or a section such as {alpha: 5e-4} or {sparsity: 0.9}")
    pll: PLLConfig | None = Field(None, description="null, or a section such as {sparsity: 0.9}")
    activation_density: ActivationDensityConfig | None = Field(
        None, description="null, or a section such as {rounds: 2}"
    )
    jit_compile: Literal[True, False, "auto"] = Field("auto", description="true, false or auto")
    steps_per_execution: StrictInt = Field(1, ge=1, description="a whole number of at least 1, such as 1")
    precision: Literal["float32", "mixed_bfloat16"] = Field("float32", description="float32 or mixed_bfloat16")
    deterministic: StrictBool = Field(True, description="true, or false for speed on a GPU at the price of equal bits")
