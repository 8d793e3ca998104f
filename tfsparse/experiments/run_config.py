"""The config of one training run, with a section for each method that is there."""

import pkgutil
from typing import Annotated, Literal

import pydantic
from pydantic import Field, StrictBool, StrictInt

from tfsparse.backend import files
from tfsparse.experiments import methods
from tfsparse.experiments.sections import DataConfig, ModelConfig, OptimizerConfig, Section, StartConfig

_METHOD_FILES = {module.name for module in pkgutil.iter_modules(methods.__path__)}


class _RunConfig(Section):
    """A whole run. Without a section of a method, and without an optimizer that prunes, it is dense."""

    name: Annotated[str, pydantic.AfterValidator(files.check_name)] = Field(
        "run", description="a name for the run, such as mnist-lenet300, and no path"
    )
    seed: StrictInt = Field(0, ge=0, lt=2**31, description="a whole number of at least 0, such as 0")
    epochs: StrictInt = Field(ge=1, lt=2**31, description="a whole number of at least 1, such as 10")
    data: DataConfig = Field(description="a section such as {name: mnist}")
    model: ModelConfig = Field(description="a section such as {name: lenet_300_100}")
    start: StartConfig = Field(StartConfig(), description="a section such as {weights: runs/base/model.keras}")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="a section such as {name: adam}")
    jit_compile: Literal[True, False, "auto"] = Field("auto", description="true, false or auto")
    steps_per_execution: StrictInt = Field(1, ge=1, description="a whole number of at least 1, such as 1")
    precision: Literal["float32", "mixed_bfloat16"] = Field("float32", description="float32 or mixed_bfloat16")
    deterministic: StrictBool = Field(True, description="true, or false for speed on a GPU at the price of equal bits")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_removed_methods(cls, values):
        """Ignore `method: null`, which every saved config has, for a method that has been removed since."""
        removed = _METHOD_FILES - methods.METHODS.keys()
        return {key: value for key, value in values.items() if key not in removed or value is not None}


RunConfig = pydantic.create_model(
    "RunConfig",
    __base__=_RunConfig,
    __doc__=_RunConfig.__doc__,
    **{
        method.name: (method.section_class | None, Field(None, description=method.description))
        for method in methods.METHODS.values()
        if method.section_class
    },
)
