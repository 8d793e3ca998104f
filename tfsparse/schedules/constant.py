"""The target sparsity from the first step on."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Constant(Schedule):
    """Prune to the target in the first step, and update the masks until `end`.

        schedule(t) = 1

    The later updates are for pruners that exchange weights, such as RigL and SET.

    Args:
        end: Fraction of training at which the last update is, in (0, 1]. Default: 1.0.
        updates: Number of updates in training, or None for an update at every step. It is small, because weights that
            have grown need time to become large: the papers on RigL and SET exchange weights every 100 steps or less
            often. Default: 100.

    Raises:
        ValueError: If `end` is not in (0, 1], or if `updates` is not a positive integer or None.

    Examples:
        >>> tfsparse.Prune(tfsparse.Constant(updates=20), 0.9, tfsparse.RigL())
    """

    def __init__(self, end: float = 1.0, updates: int | None = 100):
        super().__init__(0.0, end, updates=updates)

    def progress(self, p):
        return ops.ones_like(p)
