"""Dynamic Sparse Training: trainable thresholds."""

from typing import Literal

from pydantic import Field, StrictFloat

from tfsparse.experiments.method import CallbackMethod, with_options
from tfsparse.experiments.sections import MethodSection, OptionalSparsity
from tfsparse.methods.dst import DST, dst


class DSTConfig(MethodSection):
    """How strongly the thresholds are pushed up: by a constant alpha, or by the alpha that leads to a sparsity."""

    sparsity: OptionalSparsity = None
    alpha: StrictFloat = Field(5e-4, ge=0, description="a number of at least 0, such as 5e-4")
    threshold: Literal["vector", "scalar", "matrix"] = Field("vector", description="vector, scalar or matrix")


class _DST(CallbackMethod):
    name = "dst"
    section_class = DSTConfig
    description = "null, or a section such as {alpha: 5e-4} or {sparsity: 0.9}"

    def label(self, section):
        """Without a target alpha decides how much is pruned. Then it is always named."""
        default, has_target = DSTConfig(), section.sparsity is not None
        parts = {
            "target": has_target,
            f"alpha={section.alpha:g}": not has_target or section.alpha != default.alpha,
            f"threshold={section.threshold}": section.threshold != default.threshold,
        }
        return with_options("dst", [part for part, is_named in parts.items() if is_named])

    def convert(self, section, model):
        return dst(model, **section.model_dump(exclude={"sparsity"}))

    def callback(self, section, validation, first_batch):
        return DST(section.sparsity, data=validation)


METHOD = _DST()
