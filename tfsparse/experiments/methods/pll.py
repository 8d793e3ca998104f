"""PLL: the curvature of the loss decides when and how much is pruned."""

from typing import Literal

from pydantic import Field, StrictFloat, StrictInt

from tfsparse.experiments.method import CallbackMethod, label_with_options
from tfsparse.experiments.sections import MethodSection, OptionalSparsity
from tfsparse.methods.pll import PLL, rules


class PLLConfig(MethodSection):
    """Arguments of `tfsparse.PLL`, which measures the curvature of the loss of the first batch."""

    sparsity: OptionalSparsity = None
    every: StrictInt | None = Field(None, ge=1, description="null, or a whole number of steps, such as 50")
    start: Literal["peak"] | StrictFloat = Field("peak", description="peak, or a fraction of training, such as 0.1")
    end: StrictFloat = Field(0.5, gt=0, le=1, description="a fraction of training in (0, 1], such as 0.5")


class _PLL(CallbackMethod):
    name = "pll"
    section_class = PLLConfig
    description = "null, or a section such as {sparsity: 0.9}"

    def label(self, section):
        return label_with_options("pll", section)

    def callback(self, section, validation, first_batch):
        start = section.start if section.start == "peak" else rules.FixedStart(section.start)
        return PLL(first_batch(), start=start, **section.model_dump(exclude={"start"}))


METHOD = _PLL()
