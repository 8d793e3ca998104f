"""Equal pruning steps with training between them."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Iterative(Schedule):
    """Prune in a few equal steps with training between them. The first step is just after `start`.

        progress(p) = ceil(p * steps) / steps

    `p` is the position between `start` and `end`, in [0, 1].

    Args:
        steps: Number of pruning steps, >= 1. Default: 3.
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.2.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. It must be much larger
            than `steps`, since a pruning step is made at the next update. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, or if `steps` or `updates` is not a positive integer.

    Examples:
        >>> [round(Iterative(steps=3)(t), 3) for t in (0.2, 0.3, 0.5, 0.8)]
        [0.0, 0.333, 0.667, 1.0]
    """

    def __init__(self, steps: int = 3, *, start: float = 0.2, end: float = 1.0, updates: int | None = 1000):
        super().__init__(start, end, updates=updates)
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"Iterative got steps={steps!r}: expected a positive integer, such as Iterative(steps=3).")
        self.steps = steps

    def progress(self, p):
        return ops.ceil(ops.maximum(p * self.steps - 1e-6, 0.0)) / self.steps  # float32 may be slightly past a step
