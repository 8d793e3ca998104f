"""Training in stages: a `model.fit` for each, and a smaller model after each, by a `ResizePolicy`."""

from tfsparse.structured.stages.driver import ShrinkingDriver
from tfsparse.structured.stages.policy import Probe, ResizePolicy

__all__ = ["Probe", "ResizePolicy", "ShrinkingDriver"]
