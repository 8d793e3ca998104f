"""Pruning by a schedule and a pruner: `tfsparse.Prune`."""

import contextlib
from typing import Annotated, Any

import pydantic
import pydantic_core
from pydantic import BeforeValidator, Field, StrictFloat

from tfsparse import pruners, schedules
from tfsparse.callbacks.prune import Prune
from tfsparse.experiments.method import CallbackMethod, with_options
from tfsparse.experiments.sections import ConfigError, MethodSection, Named
from tfsparse.optimizers import addons as all_addons

_CALIBRATION_BATCHES = 4  # GraSP needs ten samples of every class


class ScheduleConfig(Named):
    """The schedule: a name of `tfsparse.schedules.names()` and its options."""

    name: str = Field("one_cycle", description="the name of a schedule, such as one_cycle")


class PrunerConfig(Named):
    """The pruner: a name of `tfsparse.pruners.names()` and its options."""

    name: str = Field("magnitude", description="the name of a pruner, such as magnitude")

    @pydantic.model_validator(mode="after")
    def _with_scope(self):
        """Write the scope down, so that a run is resumed with the one that it began with, whatever the default is."""
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # what is wrong is said when it is made
            self.model_extra["scope"] = pruners.get(self.name, **self.options).scope
        return self


class AddonConfig(Named):
    """An add-on: a name of `tfsparse.optimizers.addons.names()` and its options."""

    name: str = Field(description="the name of an add-on, such as ham")


def _check_sparsity(value):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (is_number and 0 <= value < 1):
        raise pydantic_core.PydanticCustomError("sparsity", "a sparsity")
    return float(value) if is_number else value


class PruneConfig(MethodSection):
    """How sparse, when, and by what criterion."""

    sparsity: Annotated[Any, BeforeValidator(_check_sparsity)] = Field(
        description="a fraction of zeros in [0, 1), such as 0.9 for 90 %, or auto"
    )
    drop: StrictFloat | None = Field(
        None, ge=0, description="null, or for sparsity: auto a drop of validation accuracy, such as 0.005"
    )
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="one_cycle, or {name: one_cycle, alpha: 14}")
    pruner: PrunerConfig = Field(PrunerConfig(), description="magnitude, or {name: magnitude, scope: layer}")
    min_sparsity: StrictFloat = Field(0.0, ge=0, lt=1, description="the least sparsity of a kernel, such as 0.5")
    max_sparsity: StrictFloat = Field(1.0, gt=0, le=1, description="the largest sparsity of a kernel, such as 0.97")
    addons: tuple[AddonConfig, ...] = Field((), description="a list of add-ons, such as [{name: ham, alpha: 10}]")


class _Prune(CallbackMethod):
    name = "prune"
    section_class = PruneConfig
    description = "null for dense, or a section such as {sparsity: 0.9}"
    combines = True

    def label(self, section):
        parts = [_schedule_label(section), _label(pruners, section.pruner)]
        bounds = section.min_sparsity, section.max_sparsity
        parts += [f"kernels within {bounds}"] * (bounds != (0, 1))
        return ", ".join([*parts, *(_label(all_addons, addon) for addon in section.addons)])

    def target_sparsity(self, section):
        return None if section.sparsity == "auto" else section.sparsity

    def callback(self, section, validation, first_batch):
        schedule, pruner, addons = self._parts(section)
        data = first_batch(_CALIBRATION_BATCHES) if pruner.needs_calibration and first_batch else None
        which = ("skip_first", "skip_last", "min_sparsity", "max_sparsity", "drop")
        options = {key: getattr(section, key) for key in which}
        return Prune(schedule, section.sparsity, pruner, data=data, addons=addons, **options)

    @staticmethod
    def _parts(section):
        try:
            schedule = schedules.get(section.schedule.name, **section.schedule.options)
            schedule(0.5)
            pruner = pruners.get(section.pruner.name, **section.pruner.options)
            addons = [all_addons.get(addon.name, **addon.options) for addon in section.addons]
        except TypeError as error:
            raise ConfigError(
                f"prune: {section.schedule}, {section.pruner} has an option of the wrong type: {error}. "
                "Write e.g. schedule: {name: one_cycle, alpha: 14}"
            ) from error
        return schedule, pruner, addons


def _schedule_label(section):
    if section.sparsity != "auto":
        return _label(schedules, section.schedule)
    schedule = section.schedule if section.schedule.name == "auto" else Named(name="auto")
    return _label(schedules, schedule) + (f", drop {section.drop:g}" if section.drop is not None else "")


def _label(registry, part):
    default, chosen = (registry.get(part.name, **options).get_config() for options in ({}, part.options))
    return with_options(part.name, [f"{key}={value}" for key, value in chosen.items() if value != default[key]])


METHOD = _Prune()
