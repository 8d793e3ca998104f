"""What PLL decides by: when to start, and how much to prune at a time. Numbers in, numbers out."""

import abc
import dataclasses
import math

import numpy as np

from tfsparse.backend.registry import Configurable, Registry


@dataclasses.dataclass
class Progress:
    """Where a run of PLL stands; all of it is saved with the model, as float32.

    Attributes:
        begin, total: first step and length of the training, in optimizer steps; total 0: not known yet.
        checked: step of the last check, from `begin`.
        average, highest, below: what `Peak` remembers: smoothed curvature, its maximum, checks in a row below that.
        started, ended: steps from `begin`; -1: not yet.
        idle: events in a row that wanted to prune next to nothing.
        curvature: the last that was measured; NaN: none yet.
    """

    begin: float = 0
    total: float = 0
    checked: float = 0
    average: float = math.nan
    highest: float = 0
    below: float = 0
    started: float = -1
    ended: float = -1
    idle: float = 0
    curvature: float = math.nan

    @classmethod
    def load(cls, values) -> "Progress":
        """The reverse of `dump`."""
        return cls(*(float(v) for v in values))

    def dump(self) -> np.ndarray:
        """As one float32 vector."""
        return np.array(dataclasses.astuple(self), "float32")


class Start(Configurable, abc.ABC):
    """Says at each check whether pruning starts; `t` is the fraction of training in [0, 1]."""

    def measures(self, t: float) -> bool:
        """Does it want the largest eigenvalue at `t`?"""
        return False

    @abc.abstractmethod
    def reached(self, progress: Progress, t: float, curvature: float) -> bool:
        """True to start; may note in `progress` what it has seen. `curvature` is NaN where it was not measured."""


starts = Registry("start", Start)


@starts.register
class FixedStart(Start):
    """Pruning starts at a fixed fraction of training; nothing is measured before.

    Args:
        t: fraction in [0, 1).
    """

    def __init__(self, t: float = 0.1):
        _check("t", t, 0, 1)
        self.t = t

    def reached(self, progress, t, curvature):
        return t >= self.t


@starts.register
class Peak(Start):
    """Pruning starts when the curvature has come down from its first peak.

        average = memory * average + (1 - memory) * curvature
        highest = max(highest, average)
        start   if average < (1 - drop) * highest in `patience` checks in a row, or t >= latest; never if t < earliest

    A curvature that is not finite is not counted.

    Args:
        drop: how far below its maximum the average must be, in (0, 1).
        patience: checks in a row, >= 1.
        memory: of the average, in [0, 1).
        earliest, latest: fractions of training; before `earliest` nothing is measured.

    Raises: ValueError for anything else.
    """

    def __init__(self, drop=0.1, patience: int = 2, memory=0.5, earliest=0.0, latest=0.2):
        _check("drop", drop, 0, 1)
        _check("memory", memory, 0, 1)
        _check("latest", latest, 0, 1)
        _check("earliest", earliest, 0, latest)
        if patience < 1:
            raise ValueError(f"patience={patience!r}: expected a number of checks >= 1, for example patience=2.")
        self.drop, self.patience, self.memory, self.earliest, self.latest = drop, patience, memory, earliest, latest

    def measures(self, t):
        return t >= self.earliest

    def reached(self, progress, t, curvature):
        if math.isfinite(curvature):
            self._see(progress, curvature)
        return t >= self.latest or (t >= self.earliest and progress.below >= self.patience)

    def _see(self, progress, curvature):
        known = math.isfinite(progress.average)
        progress.average = self.memory * progress.average + (1 - self.memory) * curvature if known else curvature
        progress.highest = max(progress.highest, progress.average)
        progress.below = progress.below + 1 if progress.average < (1 - self.drop) * progress.highest else 0


class Rate(Configurable, abc.ABC):
    """Says at each event how many of the smallest living weights may go."""

    @abc.abstractmethod
    def admitted(self, probe, living: int) -> tuple[int, dict]:
        """Their number, and what was measured for it: `h`, `loss`.

        Args:
            probe: measures on demand: `loss()`, `trace(probes)`, `eigenvalue(iterations)`, `num_within_budget(budget)`.
            living: weights that are not pruned yet.
        """


rates = Registry("rate", Rate)


@rates.register
class Share(Rate):
    """The same share of what lives at every event; nothing is measured.

    Args:
        share: in (0, 1).
    """

    def __init__(self, share: float = 0.2):
        _check("share", share, 0, 1)
        self.share = share

    def admitted(self, probe, living):
        return int(self.share * living), {}


@rates.register
class LossBudget(Rate):
    """As many as may go until the loss would rise by a fraction of itself, if it were a parabola.

        h       = trace(H) / living weights   (curvature="max": the largest eigenvalue)
        admit the longest run of the smallest |w| with  h / 2 * sum of w² <= tolerance * loss

    The loss is that of the calibration batch. If it or h is not finite, or h <= 0, the parabola says nothing, and none
    is admitted.

    Args:
        tolerance: of the loss, > 0.
        curvature: "mean" or "max", which bounds the rise in the worst case and admits next to nothing.
        products: Hessian-vector products for h, 1 to 5.

    Raises: ValueError for anything else.
    """

    def __init__(self, tolerance: float = 0.05, curvature: str = "mean", products: int = 4):
        _check("tolerance", tolerance, 0, math.inf)
        if curvature not in ("mean", "max"):
            raise ValueError(f"curvature={curvature!r}: expected 'mean' or 'max'.")
        if not 1 <= products <= 5:
            raise ValueError(f"products={products!r}: expected a number from 1 to 5, for example products=4.")
        self.tolerance, self.curvature, self.products = tolerance, curvature, products

    def admitted(self, probe, living):
        mean = self.curvature == "mean"
        h = probe.trace(self.products) / living if mean else abs(probe.eigenvalue(self.products))
        loss = probe.loss()
        usable = math.isfinite(h) and math.isfinite(loss) and h > 0
        return probe.num_within_budget(2 * self.tolerance * loss / h) if usable else 0, {"h": h, "loss": loss}


def num_to_prune(admitted: int, living: int, goal: int | None, pruning_events_left: int, most: float = 0.2) -> int:
    """How many weights an event prunes.

        n = min(admitted, most * living)
        with a goal: n = max(n, living - goal ** (1 / pruning_events_left) * living ** (1 - 1 / pruning_events_left)), never below it

    So the goal is met exactly at the last event, and until then by no more than the same share at each.

    Args:
        goal: weights that live in the end; None: whatever curvature admits.
        pruning_events_left: with this one.
        most: the largest share of the living that goes at once unless the goal demands it.

    >>> num_to_prune(admitted=0, living=100, goal=25, pruning_events_left=2), num_to_prune(90, 100, None, 1), num_to_prune(90, 100, 10, 1)
    (50, 20, 90)
    """
    number = min(admitted, int(most * living))
    if goal is None:
        return number
    share = 1 - (goal / living) ** (1 / max(pruning_events_left, 1))
    needed = living - goal if pruning_events_left <= 1 else math.ceil(share * living - 1e-9)
    return min(max(number, needed), living - goal)


def default_every(total: int) -> int:
    """Steps from one check to the next: 32 checks in a long training, but 150 steps at least, 16 checks in a short one.

    >>> [default_every(total) for total in (1_000, 3_000, 10_000)]
    [62, 150, 312]
    """
    return max(total // 32, min(150, total // 16), 1)


def _check(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
        raise ValueError(f"{name}={value!r}: expected a number in [{low:g}, {high:g}).")
