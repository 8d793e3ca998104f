"""Equal pruning steps with training between them."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


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
