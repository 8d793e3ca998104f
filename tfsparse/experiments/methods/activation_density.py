"""Pruning by activation density: layers become narrower during training."""

from typing import Literal

from pydantic import Field, StrictFloat, StrictInt

from tfsparse.experiments.method import DriverMethod, label_with_options
from tfsparse.experiments.sections import Section
from tfsparse.methods.activation_density import ActivationDensity


class ActivationDensityConfig(Section):
    """Arguments of `tfsparse.ActivationDensity`, which makes layers narrower during training."""

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
        driver.plan.check_epochs(0, config.epochs)
        return driver


METHOD = _ActivationDensity()
