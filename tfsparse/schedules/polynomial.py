"""Automated gradual pruning (AGP)."""

import math

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Polynomial(Schedule):
    """Automated gradual pruning (AGP): fast at first, then slower and slower.

        progress(p) = 1 - (1 - p) ** power

    `p` is the position between `start` and `end`, in [0, 1].

    Args:
        power: Exponent, > 0. Default: 3.0, the paper's.
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.2.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, if `updates` is not a positive integer or None, or if `power` is not
            above 0.

    Source:
        Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression" (2017),
        equation 1.

    Examples:
        >>> round(Polynomial(start=0.0)(0.5), 6)
        0.875
    """

    def __init__(self, power: float = 3.0, *, start: float = 0.2, end: float = 1.0, updates: int | None = 1000):
        super().__init__(start, end, updates=updates)
        if not 0 < power < math.inf:
            raise ValueError(f"Polynomial got power={power}: expected a number above 0, such as Polynomial(power=3).")
        self.power = power

    def progress(self, p):
        return 1 - (1 - p) ** self.power
