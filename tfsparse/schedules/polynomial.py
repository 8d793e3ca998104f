"""Automated gradual pruning (AGP)."""

from tfsparse.schedules.schedule import Schedule, schedules


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
