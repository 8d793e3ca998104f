"""Schedules in training steps: those of `tfsparse.schedules` as TFMOT's `PruningSchedule`s, and what we ask of any."""

import functools
import inspect
import weakref

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity.keras import PruningSchedule

from tfsparse import schedules
from tfsparse.pruners import selection


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class StepSchedule(PruningSchedule):
    """A schedule of `tfsparse.schedules` over the training steps from `begin_step` to `end_step`.

        t = (step - begin_step) / (end_step - begin_step)
        schedule(step) = (due, initial_sparsity + (sparsity - initial_sparsity) * formula(t))

    Steps are counted from 1, as TFMOT's wrappers count them. The last update is at the last step of the window and
    gives the target exactly.

    Args:
        formula: The schedule in fractions of training, its name or its config.
        sparsity: Target in [0, 1).
        end_step: Step at which the target is reached, greater than `begin_step`.
        begin_step: Step after which pruning begins, >= 0. Default: 0.
        initial_sparsity: Sparsity at `begin_step`, in [0, 1). Default: 0.0.

    Raises:
        ValueError: If a sparsity is not in [0, 1), or not 0 <= begin_step < end_step.

    Examples:
        >>> tfsparse.tfmot.StepSchedule(tfsparse.OneCycle(), 0.9, end_step=10_000)
    """

    def __init__(self, formula, sparsity: float, end_step: int, begin_step: int = 0, initial_sparsity: float = 0.0):
        self.formula = schedules.get(formula)
        if not 0 <= begin_step < end_step:
            raise ValueError(
                f"{type(self.formula).__name__} got begin_step={begin_step}, end_step={end_step}: expected training "
                "steps with 0 <= begin_step < end_step, for example end_step=epochs * steps_per_epoch."
            )
        self.sparsity = selection.check_sparsity(sparsity)
        self.initial_sparsity = selection.check_sparsity(initial_sparsity, "initial_sparsity")
        self.begin_step, self.end_step = int(begin_step), int(end_step)

    @property
    def final_sparsity(self) -> float:
        """The sparsity after `end_step`."""
        return self.initial_sparsity + (self.sparsity - self.initial_sparsity) * self.formula.final

    @tf.autograph.experimental.do_not_convert
    def __call__(self, step):
        """Return `(masks are updated at this step, sparsity)`: a bool and a float32 tensor of the step's shape."""
        step, total = tf.cast(step, tf.int32) - self.begin_step, self.end_step - self.begin_step
        fraction = self.formula.fraction(step, total)
        sparsity = self.initial_sparsity + (self.sparsity - self.initial_sparsity) * fraction
        # the product in float32 may miss the final value by a bit
        return self.formula.due(step, total), tf.where(fraction == self.formula.final, self.final_sparsity, sparsity)

    def get_config(self) -> dict:
        """Return class and configuration, in the form in which TFMOT's wrapper saves them."""
        config = {"formula": keras.saving.serialize_keras_object(self.formula), **self._steps()}
        return {"class_name": tf_keras.saving.get_registered_name(type(self)), "config": config}

    @classmethod
    def from_config(cls, config: dict) -> "StepSchedule":
        """Return the schedule of the inner part of `get_config`."""
        schedule = cls.__new__(cls)
        StepSchedule.__init__(schedule, **config)
        return schedule

    def _steps(self):
        return {k: getattr(self, k) for k in ("sparsity", "end_step", "begin_step", "initial_sparsity")}

    def __eq__(self, other) -> bool:
        return isinstance(other, StepSchedule) and self.get_config()["config"] == other.get_config()["config"]

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return _call(type(self.formula).__name__, self._steps() | self.formula.get_config())


def _in_steps(formula: type[schedules.Schedule], **defaults) -> type[StepSchedule]:
    """Return the class of a formula in steps. `begin_step` and `end_step` are the window, so start and end are 0, 1."""
    known = inspect.signature(formula).parameters
    defaults = {k: v for k, v in {"start": 0.0, "end": 1.0, **defaults}.items() if k in known}

    def __init__(self, sparsity, end_step, begin_step=0, initial_sparsity=0.0, **options):
        formula_ = schedules.get(formula, **{**defaults, **options})
        StepSchedule.__init__(self, formula_, sparsity, end_step, begin_step, initial_sparsity)

    doc = f"""`tfsparse.{formula.__name__}` in training steps, a `PruningSchedule` of TFMOT.

    Args:
        sparsity: Target in [0, 1).
        end_step: Step at which the target is reached, greater than `begin_step`.
        begin_step: Step after which pruning begins, >= 0. Default: 0.
        initial_sparsity: Sparsity at `begin_step`, in [0, 1). Default: 0.0.
        **options: Of `tfsparse.{formula.__name__}`: {", ".join(known)}. Fractions count from begin_step to end_step.

    Raises:
        ValueError: If a sparsity is not in [0, 1), not 0 <= begin_step < end_step, or an option is unknown.

    Examples:
        >>> schedule = tfsparse.tfmot.{formula.__name__}(0.9, end_step=10_000)
        >>> model = tfsparse.tfmot.prune_low_magnitude(model, schedule)
    """
    cls = type(formula.__name__, (StepSchedule,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})
    return tf_keras.saving.register_keras_serializable(package="tfsparse")(cls)


OneCycle = _in_steps(schedules.OneCycle)
Polynomial = _in_steps(schedules.Polynomial)
OneShot = _in_steps(schedules.OneShot, start=1.0)
Iterative = _in_steps(schedules.Iterative)
Constant = _in_steps(schedules.Constant)
Linear = _in_steps(schedules.Linear)
Cosine = _in_steps(schedules.Cosine)
DSD = _in_steps(schedules.DSD)


def end_step(schedule: PruningSchedule) -> int:
    """Return the step at which a schedule ends; -1 for one that does not say."""
    return getattr(schedule, "end_step", -1)


def final_sparsity(schedule: PruningSchedule) -> float | None:
    """Return the sparsity at which a schedule ends, if it is ours or TFMOT's own; None for one that does not say."""
    return getattr(schedule, "final_sparsity", getattr(schedule, "target_sparsity", None))


def full_sparsity(schedule: PruningSchedule) -> float | None:
    """Return the target of a schedule, which DSD takes back at its end; None for one that does not say."""
    return schedule.sparsity if isinstance(schedule, StepSchedule) else final_sparsity(schedule)


def ends_dense(schedule: PruningSchedule) -> bool:
    """Return whether a schedule takes back what it has pruned, as DSD does."""
    return isinstance(schedule, StepSchedule) and schedule.formula.final == 0


_traced = weakref.WeakKeyDictionary()  # one schedule serves many layers, and is traced once for all of them


def at_step(schedule: PruningSchedule, step) -> tuple:
    """Return whether the masks are updated at a step, and the sparsity then.

    Two updates are added to those of the schedule. One is at `end_step`, which the grid of TFMOT's own schedules may
    miss. The other is at step 1, if the schedule has an update at step 0: steps are counted from 1.

    Args:
        schedule: A `PruningSchedule`, ours or any other.
        step: Optimizer step, counted from 1; an integer tensor.

    Returns:
        A bool tensor, and the sparsity as a float32 tensor.
    """
    if schedule not in _traced:
        _traced[schedule] = tf.function(functools.partial(_at_step, weakref.ref(schedule)))
    return _traced[schedule](tf.convert_to_tensor(step))


def _at_step(reference, step):
    schedule = reference()
    due, sparsity = schedule(step)
    last = tf.equal(step, tf.cast(end_step(schedule), step.dtype))
    first = tf.logical_and(tf.equal(step, 1), schedule(tf.zeros_like(step))[0])
    return due | last | first, sparsity


def due_steps(schedule: PruningSchedule, first: int, last: int) -> list[int]:
    """Return the steps from `first` to `last` at which masks are updated."""
    if last < first:
        return []
    steps = tf.range(first, last + 1, dtype=tf.int64)
    return steps[tf.vectorized_map(lambda step: at_step(schedule, step)[0], steps)].numpy().tolist()


def fires(schedule: PruningSchedule, first: int, last: int) -> bool:
    """Return whether masks are updated at any step from `first` to `last`."""
    return first <= end_step(schedule) <= last or bool(due_steps(schedule, first, last))


def num_pruned(schedule: PruningSchedule, sparsity, num_units: int, entries_per_unit: int, at_end: int | None):
    """Return how many entries to prune: `at_end` where the schedule ends, before it as many as TFMOT prunes.

    kept units = round(num_units * (1 - sparsity))
    """
    kept = tf.cast(tf.round(tf.cast(num_units, tf.float32) * (1 - sparsity)), tf.int32)
    count, final = (num_units - kept) * entries_per_unit, final_sparsity(schedule)
    return count if final is None else tf.where(sparsity == np.float32(final), at_end, count)


def describe(schedule: PruningSchedule) -> str:
    """Return class and options of a schedule, for messages."""
    if isinstance(schedule, StepSchedule):
        return repr(schedule)
    return _call(type(schedule).__name__, schedule.get_config().get("config", {}))


def _call(name, options):
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
