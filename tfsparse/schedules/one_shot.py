"""All pruning in one step."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class OneShot(Schedule):
    """Prune once, to the target, at a fraction of training.

        schedule(t) = 1 if t >= start else 0

    Args:
        start: Fraction of training in [0, 1] at which everything is pruned. 0.0: in the first step; 1.0: in the last.

    Raises:
        ValueError: If `start` is not in [0, 1].

    >>> OneShot(start=0.4)(0.39), OneShot(start=0.4)(0.4)
    (0.0, 1.0)
    """

    def __init__(self, start: float = 0.4):
        if not 0 <= start <= 1:
            raise ValueError(
                f"OneShot got start={start}: expected a fraction of training in [0, 1], as in OneShot(start=0.4)."
            )
        self.start = self.end = start
        self.updates = None

    @classmethod
    def from_config(cls, config: dict) -> "OneShot":
        """The reverse of `get_config`. Files from before version 0.1 call the argument `at`."""
        return cls(config.get("start", config.get("at")))

    def progress(self, p):
        return ops.ones_like(p)
