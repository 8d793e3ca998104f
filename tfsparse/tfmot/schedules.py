"""The shared schedules in training steps, as TFMOT's `PruningSchedule`s: for its stock wrapper and for ours."""

import functools
import inspect
import weakref

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity.keras import PruningSchedule

from tfsparse import schedules
from tfsparse.masks import topk
from tfsparse.pruners import selection


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class StepSchedule(PruningSchedule):
    """Base of the schedules below: one of `tfsparse.schedules` laid over the steps from `begin_step` to `end_step`.

        t = (step - begin_step) / (end_step - begin_step)
        schedule(step) = (due, initial_sparsity + (sparsity - initial_sparsity) * formula(t))

    Steps are counted from 1, as TFMOT's wrappers count them. The last update always falls on the window's last step,
    and is the target exactly.

    Args:
        formula: the shared schedule.
        sparsity: target in [0, 1).
        end_step: the step at which it is reached; at least one after `begin_step`.
        begin_step: the step after which pruning begins.
        initial_sparsity: where it begins, in [0, 1).

    Raises: ValueError for sparsities that are no fractions and steps that leave no window.
    """

    def __init__(self, formula, sparsity: float, end_step: int, begin_step: int = 0, initial_sparsity: float = 0.0):
        if not 0 <= begin_step < end_step:
            raise ValueError(
                f"{type(formula).__name__} got begin_step={begin_step}, end_step={end_step}: expected training steps "
                f"with 0 <= begin_step < end_step, for example end_step=epochs * steps_per_epoch."
            )
        self.formula = formula
        self.sparsity = selection.check_sparsity(sparsity)
        self.initial_sparsity = selection.check_sparsity(initial_sparsity, "initial_sparsity")
        self.begin_step, self.end_step = int(begin_step), int(end_step)

    @property
    def final_sparsity(self) -> float:
        """The sparsity after `end_step`."""
        return self.initial_sparsity + (self.sparsity - self.initial_sparsity) * self.formula.final

    @tf.autograph.experimental.do_not_convert
    def __call__(self, step):
        """`(masks are recomputed at this step, sparsity)` as a bool and a float32 tensor of the step's shape."""
        step = tf.cast(step, tf.int32) - self.begin_step
        total = self.end_step - self.begin_step
        fraction = self.formula.fraction(step, total)
        sparsity = self.initial_sparsity + (self.sparsity - self.initial_sparsity) * fraction
        # the product in float32 may miss the final value by a bit
        return self.formula.due(step, total), tf.where(fraction == self.formula.final, self.final_sparsity, sparsity)

    def get_config(self) -> dict:
        """Class and configuration, in the form in which TFMOT's wrapper saves them."""
        steps = {k: getattr(self, k) for k in ("sparsity", "end_step", "begin_step", "initial_sparsity")}
        formula = keras.saving.serialize_keras_object(self.formula)
        return {
            "class_name": tf_keras.saving.get_registered_name(type(self)),
            "config": {"formula": formula, **steps},
        }

    @classmethod
    def from_config(cls, config: dict):
        """The reverse of `get_config`, of its inner part."""
        schedule = cls.__new__(cls)
        StepSchedule.__init__(schedule, **{**config, "formula": schedules.get(config["formula"])})
        return schedule

    def __eq__(self, other) -> bool:
        return isinstance(other, StepSchedule) and self.get_config()["config"] == other.get_config()["config"]

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        options = {k: getattr(self, k) for k in ("sparsity", "end_step", "begin_step", "initial_sparsity")}
        options |= self.formula.get_config()
        return f"{type(self.formula).__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"


def _in_steps(formula: type[schedules.Schedule], **defaults) -> type[StepSchedule]:
    """The class that lays `formula` over steps; `begin_step` and `end_step` are its window, so that is [0, 1]."""
    known = inspect.signature(formula).parameters
    defaults = {k: v for k, v in {"start": 0.0, "end": 1.0, **defaults}.items() if k in known}

    def __init__(self, sparsity, end_step, begin_step=0, initial_sparsity=0.0, **options):
        StepSchedule.__init__(
            self, schedules.get(formula, **{**defaults, **options}), sparsity, end_step, begin_step, initial_sparsity
        )

    doc = f"""`tfsparse.{formula.__name__}` in training steps; options: {", ".join(known)}.

    >>> tfmot.sparsity.keras.prune_low_magnitude(model, tfsparse.tfmot.{formula.__name__}(0.9, end_step=10_000))
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
    """Return the last step at which a schedule is due; -1 for one that does not end."""
    return getattr(schedule, "end_step", -1)


def final_sparsity(schedule: PruningSchedule) -> float | None:
    """Where a schedule ends: ours and TFMOT's own say so; None for one that does not."""
    return getattr(schedule, "final_sparsity", getattr(schedule, "target_sparsity", None))


def at_step(schedule: PruningSchedule, step):
    """`(masks are recomputed at this step, sparsity)`: as the schedule says; but also due at its `end_step`, which
    TFMOT's own may step over, and at step 1 if it says so of step 0, which never comes."""
    if schedule not in _traced:
        _traced[schedule] = tf.function(functools.partial(_at_step, weakref.ref(schedule)))
    return _traced[schedule](tf.convert_to_tensor(step))


_traced = weakref.WeakKeyDictionary()  # one schedule serves many layers, and is traced once for all of them


def _at_step(schedule, step):
    call = schedule()
    due, sparsity = call(step)
    last = tf.equal(step, tf.cast(getattr(call, "end_step", -1), step.dtype))
    first = tf.logical_and(tf.equal(step, 1), call(tf.zeros_like(step))[0])
    return due | last | first, sparsity


def may_fall(schedule: PruningSchedule) -> bool:
    """Could a later update prune less than an earlier one?"""
    if isinstance(schedule, StepSchedule):
        return schedule.formula.final < 1 or schedule.sparsity < schedule.initial_sparsity
    final = final_sparsity(schedule)
    return final is None or final < getattr(schedule, "initial_sparsity", 0.0)


def due_steps(schedule: PruningSchedule, first: int, last: int) -> list[int]:
    """The steps from `first` to `last` at which the masks are recomputed."""
    if last < first:
        return []
    steps = tf.range(first, last + 1, dtype=tf.int64)
    return steps[tf.vectorized_map(lambda step: at_step(schedule, step)[0], steps)].numpy().tolist()


def fires(schedule: PruningSchedule, first: int, last: int) -> bool:
    """Are the masks recomputed at any step from `first` to `last`?"""
    return first <= end_step(schedule) <= last or bool(due_steps(schedule, first, last))


def describe(schedule: PruningSchedule) -> str:
    """Class and options, for messages."""
    if isinstance(schedule, StepSchedule):
        return repr(schedule)
    options = schedule.get_config().get("config", {})
    return f"{type(schedule).__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"


def num_pruned(schedule: PruningSchedule, sparsity, size: int):
    """Entries of `size` to prune at a sparsity; at that where the schedule ends exactly `round(sparsity * size)`."""
    count, final = topk.num_pruned(sparsity, size), final_sparsity(schedule)
    if final is None:
        return count
    return tf.where(sparsity == np.float32(final), topk.num_pruned(float(final), size), count)
