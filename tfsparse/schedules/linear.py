"""The same amount at every update."""

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Linear(Schedule):
    """Prune the same amount at every update.

        progress(p) = p

    `p` is the position between `start` and `end`, in [0, 1].

    Args:
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.0.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, or if `updates` is not a positive integer or None.

    Examples:
        >>> Linear(end=0.5)(0.25)
        0.5
    """

    def progress(self, p):
        return p
