"""When to prune and how far: the fraction of the target sparsity at a fraction of training.

`s(t) = s_start + (s_target - s_start) * schedule(t)` with t in [0, 1]. A schedule is pure and knows neither steps nor
weights; `due` says at which steps the masks are computed anew.
"""

import abc
import numbers

import numpy as np
from keras import ops

from tfsparse.backend import extras
from tfsparse.backend.registry import Configurable, Registry

_ROUND_OFF = 1e-3  # float32 writes 0.2 * 1000 as a hair more than 200


class Schedule(Configurable, abc.ABC):
    """Base of all schedules: inside the window [start, end] `progress(p)` with p running from 0 to 1.

        schedule(t) = 0                                    for t < start
                      progress((t - start) / (end - start))    in the window
                      final                                for t >= end

    Args:
        start, end: window, fractions of training, 0 <= start < end <= 1.
        updates: recompute the masks at most this many times over training, evenly in t; None: at every step.

    Raises: ValueError when the window is not one.
    """

    final = 1.0

    def __init__(self, start: float = 0.0, end: float = 1.0, updates: int | None = 1000):
        if not 0 <= start < end <= 1:
            raise ValueError(
                f"{type(self).__name__} got start={start}, end={end}: expected fractions of training with "
                f"0 <= start < end <= 1, for example {type(self).__name__}(start=0.2, end=0.8)."
            )
        _check_updates(updates)
        self.start, self.end, self.updates = start, end, updates

    @abc.abstractmethod
    def progress(self, p):
        """Fraction of the target at position p in [0, 1] of the window; a tensor for a tensor."""

    def __call__(self, t):
        """Fraction of the target in [0, 1] at `t` in [0, 1]; a number for a number, an array for an array."""
        if isinstance(t, numbers.Number):
            return float(self(np.asarray(t)))
        if isinstance(t, np.ndarray):
            return ops.convert_to_numpy(self(ops.convert_to_tensor(t, "float32")))
        t = ops.cast(t, "float32")
        width = max(self.end - self.start, 1e-9)
        inside = self.progress(ops.clip((t - self.start) / width, 0.0, 1.0))
        return ops.where(t >= self.end, self.final, ops.where(t < self.start, 0.0, inside))

    def window(self, total):
        """First and last step (counted from 1) of `total` at which masks may be computed."""
        total = ops.cast(total, "float32")
        first = ops.maximum(ops.ceil(self.start * total - _ROUND_OFF), 1.0)
        last = ops.minimum(ops.maximum(ops.ceil(self.end * total - _ROUND_OFF), first), total)
        return ops.cast(first, "int32"), ops.cast(last, "int32")

    def due(self, step, total):
        """Are the masks recomputed at `step` of `total`? Evenly spaced steps of the window, and always its last."""
        step = ops.cast(step, "int32")
        first, last = self.window(total)
        inside = ops.logical_and(step >= first, step <= last)
        return ops.logical_and(inside, ops.logical_or(self._on_grid(step, first, total), ops.equal(step, last)))

    def fraction(self, step, total):
        """`schedule(step / total)`, and exactly `final` from the last step of the window on."""
        _, last = self.window(total)
        t = ops.cast(step, "float32") / ops.cast(total, "float32")
        return ops.where(ops.cast(step, "int32") >= last, self.final, self(t))

    def plot(self, ax=None, sparsity: float = 1.0):
        """Draw sparsity over training; returns the matplotlib Axes."""
        ax = ax or extras.require("matplotlib.pyplot", "plot").subplots(figsize=(6, 3.5))[1]
        t = np.linspace(0, 1, 501)
        ax.plot(t, sparsity * self(t), label=repr(self))
        ax.set(xlabel="fraction of training", ylabel="fraction of the target" if sparsity == 1.0 else "sparsity")
        ax.set(xlim=(0, 1), ylim=(0, 1.05 * sparsity))
        ax.grid(alpha=0.3)
        return ax

    def _on_grid(self, step, first, total):
        return ops.equal(ops.mod(step - first, self._period(total)), 0)

    def _period(self, total):
        if self.updates is None:
            return 1
        return ops.maximum(ops.floor_divide(ops.cast(total, "int32") + self.updates - 1, self.updates), 1)


def _check_updates(updates):
    if updates is not None and (not isinstance(updates, int) or updates < 1):
        raise ValueError(f"updates={updates!r}: expected a positive integer, or None for an update at every step.")


schedules = Registry("schedule", Schedule)
get = schedules.get
names = schedules.names
