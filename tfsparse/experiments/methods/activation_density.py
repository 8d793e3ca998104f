"""Pruning by activation density: layers become narrower during training."""

from tfsparse.experiments.staged_method import StagedMethod, section
from tfsparse.methods.activation_density import ActivationDensity
from tfsparse.methods.activation_density.options import Options

ActivationDensityConfig = section(
    "ActivationDensityConfig",
    Options,
    "The options of `tfsparse.ActivationDensity`, which makes layers narrower during training.",
)


class _ActivationDensity(StagedMethod):
    name = "activation_density"
    section_class = ActivationDensityConfig
    description = "null, or a section such as {rounds: 2}"
    driver_class = ActivationDensity


METHOD = _ActivationDensity()
