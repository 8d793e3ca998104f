"""Half a cosine."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Cosine(Schedule):
    """Half a cosine: slow at first, fast in the middle, slow at the end.

        progress(p) = (1 + cos(pi (1 - p))) / 2

    `p` is the position between `start` and `end`, in [0, 1].

    Args:
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.0.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, or if `updates` is not a positive integer or None.

    Examples:
        >>> round(Cosine()(0.25), 6)
        0.146447
    """

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - p))) / 2
