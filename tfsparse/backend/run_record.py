"""What `run.json` holds when `tfsparse train` has written it, key by key. Needs the extra `cli`.

`run_directory` checks only what every road of the package reads, and needs no optional package.
"""

import math
import os
from typing import Annotated, Literal

import pydantic
import pydantic_core
from pydantic import AfterValidator, Field, JsonValue

from tfsparse.backend import run_directory

_MAX_FLOAT32 = 3.4028235e38  # metrics are float32, and plots overflow at larger numbers


def _check_float32(value):
    if math.isfinite(value) and abs(value) > _MAX_FLOAT32:
        raise pydantic_core.PydanticCustomError("float32", "expected a number that float32 can hold")
    return value


_Fraction = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, le=_MAX_FLOAT32, allow_inf_nan=False)]
_Metric = Annotated[float, AfterValidator(_check_float32)]


class _Part(pydantic.BaseModel):
    """Base of the parts. Further keys are kept."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]


class _Config(_Part):
    epochs: Annotated[int, Field(ge=1)]


class _Epoch(_Part):
    epoch: _Count
    accuracy: _Fraction
    val_accuracy: _Fraction
    densities: dict[str, float] | None = None
    widths: dict[str, int] | None = None
    __pydantic_extra__: dict[str, _Metric]


class _Checkpoint(_Part):
    sha256: str
    random_states: list[list[int]]


class _Environment(_Part):
    versions: dict[str, str]


class _Summary(_Part):
    data: str
    model: str
    method: str
    seed: int
    asked_sparsity: _Fraction | None
    sparsity: _Fraction
    accuracy: _Fraction
    best_accuracy: _Fraction
    seconds: _Seconds
    training_complexity: _Seconds = None  # may be absent, but not null, as the two that follow
    parameters: _Count = None
    dense_parameters: _Count = None


class _Costs(_Part):
    sparsity: _Fraction
    size: _Count
    kept: _Count
    flops: _Count | None
    effective_flops: _Count | None


class _Row(_Costs):
    weight: str
    shape: list[_Count]
    target: _Fraction | None
    dense_because: str | None = None


class _Dense(_Part):
    weight: str
    shape: list[_Count]
    size: _Count
    because: str


class _SyncStats(_Part):
    num_syncs: _Count
    bytes: _Count


class _Report(_Costs):
    rows: list[_Row]
    parameters: _Count
    nonzero_parameters: _Count
    sync_stats: _SyncStats | None = None
    dense: list[_Dense] | None = None
    unfinished: str | None = None


class _Milliseconds(_Part):
    min: _Seconds
    median: _Seconds
    max: _Seconds


class _FrontierRow(_Part):
    sparsity: _Fraction
    value: _Metric
    low: _Metric | None
    high: _Metric | None
    macs: _Count | None
    saved_model_bytes: _Count | None
    bytes: _Count | None
    milliseconds: _Milliseconds | None


class _Frontier(_Part):
    sha256: str
    metric: str
    num_examples: _Count
    is_nested: bool
    target: str
    rows: Annotated[list[_FrontierRow], Field(min_length=1)]


class _Run(_Part):
    status: Literal["running"]
    name: str
    config: _Config
    seed: int
    epochs: list[_Epoch]
    seconds: list[_Seconds]
    checkpoints: list[_Checkpoint]
    environment: _Environment = None  # may be absent, but not null
    summary: _Summary = None
    report: _Report = None
    frontier: _Frontier = None

    @pydantic.model_validator(mode="after")
    def _every_model_has_its_epoch(self):
        if len(self.epochs) < len(self.checkpoints) - 1:
            raise pydantic_core.PydanticCustomError("epochs", "fewer epochs than models")
        return self


class _FinishedRun(_Run):
    status: Literal["finished"]
    epochs: Annotated[list[_Epoch], Field(min_length=1)]
    environment: _Environment
    summary: _Summary
    report: _Report


_RECORD = pydantic.TypeAdapter(Annotated[_Run | _FinishedRun, Field(discriminator="status")])


def read(directory: str | os.PathLike) -> dict:
    """Read the record of a run of `tfsparse train`.

    Args:
        directory: A run directory, or its file `run.json`.

    Returns:
        The record. If its `status` is "finished", it has an epoch, `summary`, `report` and `environment`.

    Raises:
        RunError: If there is no run, or its record is damaged; the message names the first key that is wrong.
    """
    run = run_directory.read(directory)
    try:
        _RECORD.validate_python(run)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        problem = ": ".join([".".join(map(str, first["loc"][1:])) or "run.json", first["msg"]])
        raise run_directory.RunError(
            f"{directory} holds a damaged run: {problem}. Put an intact run.json back, or train again."
        ) from None
    return run
