"""The base of all schedules: when masks are updated, and which fraction of the target sparsity they have then."""

import abc
import itertools
import numbers
from collections.abc import Sequence

import numpy as np
from keras import ops

from tfsparse.backend.extras import require
from tfsparse.backend.registry import Configurable, Registry

_ROUND_OFF = 1e-3  # in float32 0.2 * 1000 is slightly more than 200


class Schedule(Configurable, abc.ABC):
    """Base of all schedules. A subclass writes `progress`, and `is_update` if updates are not evenly spaced.

        sparsity(t) = initial sparsity + (target sparsity - initial sparsity) * schedule(t)
        schedule(t) = 0                                      for t < start
                      progress((t - start) / (end - start))  for start <= t < end
                      final                                  for t >= end

    `t` is the fraction of training that is done, in [0, 1]. A schedule knows neither the number of steps nor the
    weights, and has no state. The arguments of `__init__` are stored as attributes of the same names; they are the
    configuration that is saved.

    Args:
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.0.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: The masks are updated at most this many times in training, at evenly spaced steps. None: at every step.
            Default: 1000.

    Attributes:
        final: Fraction of the target from `end` on: 1.0, or 0.0 if training ends dense.

    Raises:
        ValueError: If not 0 <= start < end <= 1, or if `updates` is not a positive integer or None.

    Examples:
        >>> @tfsparse.schedules.schedules.register
        ... class SquareRoot(tfsparse.schedules.Schedule):
        ...     def progress(self, p):
        ...         return keras.ops.sqrt(p)
        >>> SquareRoot(start=0.2)(0.4)
        0.5
    """

    final = 1.0

    def __init__(self, start: float = 0.0, end: float = 1.0, *, updates: int | None = 1000):
        if not 0 <= start < end <= 1:
            raise ValueError(
                f"{type(self).__name__} got start={start}, end={end}: expected fractions of training with "
                f"0 <= start < end <= 1, for example {type(self).__name__}(start=0.2, end=0.8)."
            )
        if updates is not None and (not isinstance(updates, int) or updates < 1):
            raise ValueError(f"updates={updates!r}: expected a positive integer, or None for an update at every step.")
        self.start, self.end, self.updates = start, end, updates

    @abc.abstractmethod
    def progress(self, p):
        """Return the fraction of the target between `start` and `end`.

        Args:
            p: Position between `start` and `end`, a float32 tensor in [0, 1].

        Returns:
            A tensor of the same shape with values in [0, 1]. It is computed in the compiled training step, so it
            consists of `keras.ops`.
        """

    def is_update(self, step, first, total):
        """Return whether the masks are updated at a step between `start` and `end`.

            (step - first) % ceil(total / updates) == 0

        Override it if updates are not evenly spaced. It is not asked outside `start` and `end`. At the last step of
        this window the masks are always updated.

        Args:
            step: Step of training, counted from 1; an int32 tensor of any shape.
            first: First step of the window, a scalar int32 tensor.
            total: Number of steps in training, an int or a scalar int32 tensor.

        Returns:
            A bool tensor with the shape of `step`.

        Examples:
            >>> def is_update(self, step, first, total):  # at the powers of 2
            ...     return keras.ops.equal(keras.ops.bitwise_and(step, step - 1), 0)
        """
        period = 1
        if self.updates is not None:
            period = ops.maximum(ops.floor_divide(ops.cast(total, "int32") + self.updates - 1, self.updates), 1)
        return ops.equal(ops.mod(step - first, period), 0)

    def __call__(self, t):
        """Return the fraction of the target at a fraction of training.

        Args:
            t: Fraction of training in [0, 1]: a number, an array or a tensor.

        Returns:
            A number for a number, an array for an array, a float32 tensor for a tensor.
        """
        if isinstance(t, numbers.Number):
            return float(self(np.asarray(t)))
        if isinstance(t, np.ndarray):
            return ops.convert_to_numpy(self(ops.convert_to_tensor(t, "float32")))
        t = ops.cast(t, "float32")
        width = max(self.end - self.start, 1e-9)
        between = self.progress(ops.clip((t - self.start) / width, 0.0, 1.0))
        return ops.where(t >= self.end, self.final, ops.where(t < self.start, 0.0, between))

    def window(self, total):
        """Return the first and the last step at which masks may be updated, counted from 1.

        Args:
            total: Number of steps in training.
        """
        total = ops.cast(total, "float32")
        first = ops.maximum(ops.ceil(self.start * total - _ROUND_OFF), 1.0)
        last = ops.minimum(ops.maximum(ops.ceil(self.end * total - _ROUND_OFF), first), total)
        return ops.cast(first, "int32"), ops.cast(last, "int32")

    def due(self, step, total):
        """Return whether the masks are updated at a step: `is_update` inside the window, and its last step.

        Args:
            step: Step of training, counted from 1; an int, an array or a tensor.
            total: Number of steps in training.

        Returns:
            A bool tensor with the shape of `step`.
        """
        step = ops.cast(step, "int32")
        first, last = self.window(total)
        in_window = ops.logical_and(step >= first, step <= last)
        return ops.logical_and(in_window, ops.logical_or(self.is_update(step, first, total), ops.equal(step, last)))

    def fraction(self, step, total):
        """Return the fraction of the target at a step: `schedule(step / total)`, and `final` from the last update on.

        Args:
            step: Step of training, counted from 1.
            total: Number of steps in training.
        """
        _, last = self.window(total)
        t = ops.cast(step, "float32") / ops.cast(total, "float32")
        return ops.where(ops.cast(step, "int32") >= last, self.final, self(t))

    def check_target(self, sparsity: float, pruner) -> None:
        """Raise ValueError if training with this schedule cannot end at a target, or not with a pruner.

        Args:
            sparsity: The target in [0, 1).
            pruner: The `tfsparse.pruners.Pruner`.
        """

    def plot(self, ax=None, *, sparsity: float = 1.0):
        """Draw the sparsity over training. Needs matplotlib: `pip install 'tfsparse[plot]'`.

        Args:
            ax: The matplotlib Axes to draw on. Default: None, new Axes.
            sparsity: Target in [0, 1). Default: 1.0, the fraction of the target is drawn.

        Returns:
            The matplotlib Axes.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        ax = ax or require("matplotlib.pyplot", "plot").subplots(figsize=(6, 3.5))[1]
        t = np.linspace(0, 1, 501)
        ax.plot(t, sparsity * self(t), label=repr(self))
        ax.set(xlabel="fraction of training", ylabel="fraction of the target" if sparsity == 1.0 else "sparsity")
        ax.set(xlim=(0, 1), ylim=(0, 1.05 * sparsity))
        ax.grid(alpha=0.3)
        return ax


def check_levels(name: str, levels: Sequence[float], least: int) -> tuple[float, ...]:
    """Return the levels of a schedule as a tuple.

    Args:
        name: Name of the schedule, for the message.
        levels: Sparsities, ascending, in [0, 1).
        least: How many there must be.

    Raises:
        ValueError: If they are something else.
    """
    try:
        values = tuple(map(float, levels))
    except (TypeError, ValueError):
        values = ()
    ascending = all(low < high for low, high in itertools.pairwise(values))
    if len(values) < least or not ascending or not 0 <= values[0] <= values[-1] < 1:
        number = {1: "ascending sparsities", 2: "at least two ascending sparsities"}[least]
        raise ValueError(f"{name} got levels={levels!r}: expected {number} in [0, 1), for example [0.5, 0.8, 0.9].")
    return values


def check_ends_at(schedule: Schedule, sparsity: float) -> None:
    """Refuse a target that is not the last of a schedule's `levels`.

    Raises:
        ValueError: If it is not.
    """
    last = schedule.levels[-1]
    if abs(sparsity - last) > 1e-9:
        raise ValueError(
            f"sparsity={sparsity:g}, but the last level of {schedule!r} is {last:g}, and training ends at it: write "
            f"sparsity={last:g}, or other levels."
        )


schedules = Registry("schedule", Schedule)
get = schedules.get
names = schedules.names
