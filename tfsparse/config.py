"""The configuration of one training run: one pydantic class per section, read from YAML."""

import copy
import difflib
import os
import pathlib
import re
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag

QUICK_START = pathlib.Path(__file__).with_name("configs") / "quickstart.yaml"


class ConfigError(ValueError):
    """A config that cannot be read or does not say what it should; the message names the key and the line to write."""


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Named(_Section):
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


class DataConfig(_Section):
    """What to train on; `dir` is where TFDS finds or puts it."""

    name: str = Field(description="digits, or the name of an image dataset of TFDS, such as mnist")
    dir: str | None = Field(None, description="a folder of TFDS datasets, or null for TFDS_DATA_DIR")
    batch_size: StrictInt = Field(128, ge=1, description="a whole number of at least 1, such as 128")
    augment: Literal["pad_crop_flip"] | None = Field(None, description="null or pad_crop_flip")
    image_size: StrictInt | None = Field(None, ge=1, description="null, or a side in pixels, such as 224")
    standardize: StrictBool = Field(True, description="true, or false to leave pixels in [0, 1]")


class ModelConfig(Named):
    """What to train: a name of `tfsparse.zoo.models.names()` and the options of that architecture."""


class OneCycleRateConfig(_Section):
    """The learning rate of 1cycle: `{name: one_cycle, max: 0.1}`."""

    name: Literal["one_cycle"] = Field(description="one_cycle or steps; for a constant write the number alone")
    max: StrictFloat = Field(gt=0, description="the highest learning rate, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.25, gt=0, lt=1, description="a fraction of training in (0, 1), such as 0.25")
    initial_divisor: StrictFloat = Field(25.0, gt=0, description="max / first rate, a number above 0, such as 25")
    final_divisor: StrictFloat = Field(1e5, gt=0, description="max / last rate, a number above 0, such as 1e5")


class StepRateConfig(_Section):
    """A learning rate that falls in steps: `{name: steps, first: 0.1, at: [0.5, 0.75]}`."""

    name: Literal["steps"] = Field(description="steps or one_cycle; for a constant write the number alone")
    first: StrictFloat = Field(gt=0, description="the rate before the first step, a number above 0, such as 0.1")
    at: tuple[StrictFloat, ...] = Field(description="rising fractions of training in (0, 1), such as [0.5, 0.75]")
    factor: StrictFloat = Field(0.1, gt=0, description="what each step multiplies by, a number above 0, such as 0.1")
    warmup: StrictFloat = Field(0.0, ge=0, lt=1, description="a fraction of training in [0, 1), such as 0.05")


def _kind_of_rate(value):
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if isinstance(value, dict | _Section):
        return "<steps>" if name == "steps" else "<one_cycle>"
    return "<number>"


LearningRate = Annotated[
    Annotated[StrictFloat, Tag("<number>"), Field(gt=0)]
    | Annotated[OneCycleRateConfig, Tag("<one_cycle>")]
    | Annotated[StepRateConfig, Tag("<steps>")],
    Discriminator(_kind_of_rate),
]
# pydantic puts these into the places of errors, where no user wrote them
_TAGS = {"<number>": None, "<one_cycle>": OneCycleRateConfig, "<steps>": StepRateConfig}


class OptimizerConfig(Named):
    """How to train: a Keras optimizer or gsm, and its arguments; `momentum: one_cycle` mirrors the learning rate.

    With gsm and a compression above 1 the model is cut to it after the last step.
    """

    name: str = Field("sgd", description="gsm, or the name of a Keras optimizer, such as sgd or adam")
    learning_rate: LearningRate | None = Field(
        None, description="a number above 0 such as 0.1, {name: one_cycle, max: 0.1}, or {name: steps, ...}"
    )


class StartConfig(_Section):
    """Where training starts, instead of the weights that the seed gives; both are files of models like this one."""

    weights: str | None = Field(None, description="a file such as runs/base/model.keras, or null")
    mask: str | None = Field(None, description="a file such as runs/gsm/model.keras, whose zeros stay zero, or null")


class ScheduleConfig(Named):
    """When: a name of `tfsparse.schedules.names()` and its options."""

    name: str = Field("one_cycle", description="the name of a schedule, such as one_cycle")


class PrunerConfig(Named):
    """By what: a name of `tfsparse.pruners.names()` and its options."""

    name: str = Field("magnitude", description="the name of a pruner, such as magnitude")


class PruneConfig(_Section):
    """How sparse, when and by what."""

    sparsity: StrictFloat = Field(ge=0, lt=1, description="a fraction of zeros in [0, 1), such as 0.9 for 90 %")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="one_cycle, or {name: one_cycle, alpha: 14}")
    pruner: PrunerConfig = Field(PrunerConfig(), description="magnitude, or {name: magnitude, scope: global}")
    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


class DSTConfig(_Section):
    """How strongly trained thresholds are pushed to prune: by a fixed alpha, or by the one that leads to a sparsity."""

    sparsity: StrictFloat | None = Field(None, ge=0, lt=1, description="null, or a fraction of zeros in [0, 1), as 0.9")
    alpha: StrictFloat = Field(5e-4, ge=0, description="a number of at least 0, such as 5e-4")
    threshold: Literal["vector", "scalar", "matrix"] = Field("vector", description="vector, scalar or matrix")
    skip_first: StrictBool = Field(False, description="true to leave the first kernel dense, or false")
    skip_last: StrictBool = Field(False, description="true to leave the last kernel dense, or false")


class RunConfig(_Section):
    """A whole run. Without `prune`, `dst` and an optimizer that prunes it is dense."""

    name: str = Field("run", description="a name for the run, such as mnist-lenet300")
    seed: StrictInt = Field(0, ge=0, lt=2**31, description="a whole number of at least 0, such as 0")
    epochs: StrictInt = Field(ge=1, description="a whole number of at least 1, such as 10")
    data: DataConfig = Field(description="a section such as {name: mnist}")
    model: ModelConfig = Field(description="a section such as {name: lenet_300_100}")
    start: StartConfig = Field(StartConfig(), description="a section such as {weights: runs/base/model.keras}")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="a section such as {name: adam}")
    prune: PruneConfig | None = Field(None, description="null for dense, or a section such as {sparsity: 0.9}")
    dst: DSTConfig | None = Field(None, description="null, or a section such as {alpha: 5e-4} or {sparsity: 0.9}")
    jit_compile: Literal[True, False, "auto"] = Field("auto", description="true, false or auto")
    steps_per_execution: StrictInt = Field(1, ge=1, description="a whole number of at least 1, such as 1")
    precision: Literal["float32", "mixed_bfloat16"] = Field("float32", description="float32 or mixed_bfloat16")
    deterministic: StrictBool = Field(True, description="true, or false for speed on a GPU at the price of equal bits")


def load(path: str | os.PathLike, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the config of the YAML file at `path`, changed by `overrides` of the form `"prune.sparsity=0.95"`.

    Raises ConfigError for a file that cannot be read, that is not YAML, or whose keys and values are not a config.

    >>> load("configs/mnist_lenet300_one_cycle.yaml", ["prune.sparsity=0.95"]).prune.sparsity
    0.95
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise ConfigError(f"Cannot read the config {path}: {reason}. Pass the path of a YAML file.") from error
    return validate(_yaml(text, str(path)), overrides, source=str(path))


def validate(values: dict, overrides: Sequence[str] = (), source: str = "config") -> RunConfig:
    """Return the config that `values` says; `source` is what messages call it. Raises ConfigError."""
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
    """Return one line per key in which two configs differ: `epochs: 10 -> 20`."""
    before, after = (_flat(c.model_dump(mode="json")) for c in (old, new))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


# ------------------------------------------------------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes 1e-3 for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _yaml(text, source):
    try:
        return yaml.load(text, _Loader)
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
        if isinstance(inner, str):  # the short form of a section that has only its name
            inner = {"name": inner}
        if not isinstance(inner, dict | None):
            above = ".".join(path[:depth])
            raise ConfigError(f"--set {override!r}: {above} is {inner!r} and has no keys; write e.g. --set {above}=...")
        values[section] = values = inner or {}
    values[last] = _yaml(text, f"--set {override!r}")


# ---------------------------------------------------------------------------------------------------------- messages


def _problem(details):
    location = [str(part) for part in details["loc"] if part not in _TAGS]
    path, given = ".".join(location), details["input"]
    end = -2 if details["loc"][-1:] and details["loc"][-1] in _TAGS else -1
    section = _section_at(details["loc"][:end])
    if details["type"] == "extra_forbidden":
        return _unknown_key(path, location, section)
    field = section.model_fields.get(location[-1]) if section and location else None
    expected = field.description if field else details["msg"]
    if details["type"] == "missing":
        return f"{path} is missing: expected {expected}."
    return f"{path}={given!r}: expected {expected}."


def _unknown_key(path, location, section):
    keys = list(section.model_fields)
    near = difflib.get_close_matches(location[-1], keys, n=1, cutoff=0.5)
    above = "".join(f"{part}." for part in location[:-1])
    hint = f"did you mean {above}{near[0]}? " if near else ""
    return f"{path} is not a key: {hint}The keys here are {', '.join(keys)}."


def _section_at(location):
    """Return the class of the section at `location`, or None where a section has a part that no class describes."""
    section = RunConfig
    for part in location:
        field = section.model_fields.get(part) if section else None
        section = _TAGS[part] if part in _TAGS else _section_in(field.annotation) if field else None
    return section


def _section_in(annotation):
    """Return the class of a section inside unions and annotations, or None."""
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation
    return next(filter(None, map(_section_in, typing.get_args(annotation))), None)


def _kind(value):
    return "nothing" if value is None else f"a {type(value).__name__}"


def _flat(values, above=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat
