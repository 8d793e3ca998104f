"""When to prune and how far: the fraction of the target sparsity at a fraction of training.

`s(t) = s_start + (s_target - s_start) * schedule(t)` with t in [0, 1]. A schedule is pure and knows neither steps nor
weights; `due` says at which steps the masks are computed anew.
"""

import abc
import math
import numbers

import numpy as np
from keras import ops

from tfsparse.registry import Configurable, Registry

_ROUND_OFF = 1e-3  # float32 writes 0.2 * 1000 as a hair more than 200
_PART = 1e-4  # of a phase: float32 writes 2 phases as a hair less


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
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots(figsize=(6, 3.5))[1]
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


@schedules.register
class OneCycle(Schedule):
    """One-Cycle Pruning: one sigmoid from the first step to the last, fastest at p = beta / alpha.

        progress(p) = (1 + exp(-alpha + beta)) / (1 + exp(-alpha p + beta))

    Source: Hubens et al., "One-Cycle Pruning" (ICIP 2022); alpha=14, beta=5 are its published values (the fasterai
    library uses beta=6). Note progress(0) = 0.0067, not 0.

    >>> round(OneCycle()(0.5), 6)
    0.880906
    """

    def __init__(self, alpha: float = 14.0, beta: float = 5.0, start: float = 0.0, end: float = 1.0, updates=1000):
        super().__init__(start, end, updates)
        self.alpha, self.beta = alpha, beta

    def progress(self, p):
        return (1 + math.exp(-self.alpha + self.beta)) / (1 + ops.exp(-self.alpha * p + self.beta))


@schedules.register
class Polynomial(Schedule):
    """Automated gradual pruning (AGP): fast at first, slower and slower.

        progress(p) = 1 - (1 - p) ** power

    Source: Zhu & Gupta, "To prune, or not to prune" (2017), power 3.

    >>> round(Polynomial(start=0.0)(0.5), 6)
    0.875
    """

    def __init__(self, power: float = 3.0, start: float = 0.2, end: float = 1.0, updates=1000):
        super().__init__(start, end, updates)
        self.power = power

    def progress(self, p):
        return 1 - (1 - p) ** self.power


@schedules.register
class OneShot(Schedule):
    """All at once, at the fraction `at` of training; 1.0 is after the last step.

        schedule(t) = 1 if t >= at else 0

    >>> OneShot(at=0.4)(0.39), OneShot(at=0.4)(0.4)
    (0.0, 1.0)
    """

    def __init__(self, at: float = 0.4):
        if not 0 <= at <= 1:
            raise ValueError(f"OneShot got at={at}: expected a fraction of training in [0, 1], as in OneShot(at=0.4).")
        self.at = self.start = self.end = at
        self.updates = None

    def progress(self, p):
        return ops.ones_like(p)


@schedules.register
class Iterative(Schedule):
    """Equal steps with training between them, the first just after `start`.

        progress(p) = ceil(p * steps) / steps

    >>> [round(Iterative(steps=3)(t), 3) for t in (0.2, 0.3, 0.5, 0.8)]
    [0.0, 0.333, 0.667, 1.0]
    """

    def __init__(self, steps: int = 3, start: float = 0.2, end: float = 1.0, updates=1000):
        super().__init__(start, end, updates)
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"Iterative got steps={steps!r}: expected a positive integer, such as Iterative(steps=3).")
        self.steps = steps

    def progress(self, p):
        return ops.ceil(ops.maximum(p * self.steps - 1e-6, 0.0)) / self.steps  # float32 may be a hair past a step


@schedules.register
class Constant(Schedule):
    """The target from the first step on; until `end` the masks are looked at again, for pruners that exchange weights.

        schedule(t) = 1

    updates: 100 by default, so that what has grown has time to become large: RigL and SET were made for an exchange
    every 100 steps.
    """

    def __init__(self, end: float = 1.0, updates: int | None = 100):
        super().__init__(0.0, end, updates)

    def progress(self, p):
        return ops.ones_like(p)


@schedules.register
class Linear(Schedule):
    """The same amount at every update.

        progress(p) = p
    """

    def progress(self, p):
        return p


@schedules.register
class Cosine(Schedule):
    """Half a cosine: slow, fast, slow.

        progress(p) = (1 + cos(pi (1 - p))) / 2
    """

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - p))) / 2


@schedules.register
class DSD(Schedule):
    """Dense, sparse, dense: up to the target at p = 1/2 and back to none at the end.

        progress(p) = (1 + cos(pi (1 - 2 p))) / 2

    Source: Han et al., "DSD" (ICLR 2017), in fasterai's cosine form.
    """

    final = 0.0

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - 2 * p))) / 2


@schedules.register
class ACDC(Schedule):
    """AC/DC: dense until `start`, then sparse and dense phases in turn, a longer dense one, and sparse from `end` on.

        schedule(t) = 1 in [start, start + phase), [start + 2 phase, start + 3 phase), ... before `last_dense`
                      0 elsewhere before `end`;  1 from `end` on

    Masks are due where a phase begins and nowhere else. The defaults are the paper's 100 epochs of ResNet-50, as
    fractions. Weights return with the value 0 and with empty slots; the authors empty the momentum of all weights then.
    They rank all weights together: `Prune("acdc", 0.9, tfsparse.Magnitude(scope="global"))`.

    Args:
        start: fraction of training at which the first sparse phase begins.
        phase: length of a phase, > 0.
        last_dense: where the last dense phase begins.
        end: where it ends; 0 <= start < last_dense < end <= 1.

    Raises: ValueError for phases that are none.

    Source: Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks" (NeurIPS 2021).

    >>> [ACDC()(t) for t in (0.05, 0.12, 0.17, 0.8, 0.9)]
    [0.0, 1.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, start: float = 0.1, phase: float = 0.05, last_dense: float = 0.75, end: float = 0.85):
        super().__init__(start, end, updates=None)
        if not (start < last_dense < end and phase > 0):
            raise ValueError(
                f"ACDC got start={start}, phase={phase}, last_dense={last_dense}, end={end}: expected phase > 0 and "
                "start < last_dense < end, as in ACDC(start=0.1, phase=0.05, last_dense=0.75, end=0.85)."
            )
        self.phase, self.last_dense = phase, last_dense

    def progress(self, p):
        passed = p * (self.end - self.start) / self.phase + _PART
        alternating = passed < (self.last_dense - self.start) / self.phase
        return ops.cast(ops.logical_and(alternating, ops.mod(ops.floor(passed), 2) == 0), "float32")

    def _on_grid(self, step, first, total):
        changed = ops.not_equal(self.fraction(step, total), self.fraction(step - 1, total))
        return ops.logical_or(changed, ops.equal(step, first))
