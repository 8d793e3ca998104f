"""All pruning in one step."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class OneShot(Schedule):
    """Prune to the target in one step.

        schedule(t) = 1 if t >= start else 0

    Args:
        start: Fraction of training at which everything is pruned, in [0, 1]. 0.0: in the first step. 1.0: in the last
            step. Default: 0.4.

    Raises:
        ValueError: If `start` is not in [0, 1].

    Examples:
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
        """Create a schedule from what `get_config` returned. Older files call the argument `at`."""
        return cls(config.get("start", config.get("at")))

    def progress(self, p):
        return ops.ones_like(p)
