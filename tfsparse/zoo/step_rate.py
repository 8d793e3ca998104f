"""A learning rate that falls in steps, after a linear warm-up."""

from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfsparse")
class StepRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of many papers: constant, multiplied by `factor` at some fractions of training.

        p = step / total_steps
        rate = first * min(p / warmup, 1) * factor ** #{a in at: p >= a}

    first: > 0. total_steps: batches of the whole run, >= 1. at: fractions in (0, 1), rising. factor: > 0.
    warmup: fraction in [0, 1); 0 is none.

    Raises ValueError for anything outside these ranges.

    >>> rate = StepRate(0.1, total_steps=100, at=(0.5, 0.75))
    >>> [f"{float(rate(step)):.3f}" for step in (0, 50, 75)]
    ['0.100', '0.010', '0.001']
    """

    def __init__(
        self, first: float, total_steps: int, at: Sequence[float] = (), factor: float = 0.1, warmup: float = 0.0
    ):
        fits = first > 0 and factor > 0 and total_steps >= 1 and 0 <= warmup < 1
        if not fits or list(at) != sorted(set(at)) or not all(0 < a < 1 for a in at):
            raise ValueError(
                f"first={first}, total_steps={total_steps}, at={list(at)}, factor={factor}, warmup={warmup}: expected "
                "positive numbers, rising fractions of training in (0, 1) and a warmup in [0, 1); write e.g. "
                "StepRate(0.1, total_steps=1000, at=(0.5, 0.75), factor=0.1, warmup=0.05)."
            )
        self.first, self.total_steps, self.at = first, total_steps, tuple(at)
        self.factor, self.warmup = factor, warmup

    def __call__(self, step):
        position = ops.cast(step, "float32") / self.total_steps
        rate = self.first * (ops.minimum(position / self.warmup, 1.0) if self.warmup else ops.ones_like(position))
        for at in self.at:
            rate = ops.where(position >= at, rate * self.factor, rate)
        return rate

    def get_config(self):
        return {k: getattr(self, k) for k in ("first", "total_steps", "at", "factor", "warmup")}
