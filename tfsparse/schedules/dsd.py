"""Dense, sparse, dense."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class DSD(Schedule):
    """Dense, sparse, dense: the sparsity rises to the target in the middle and falls back to 0 at the end.

        progress(p) = (1 + cos(pi (1 - 2 p))) / 2

    `p` is the position between `start` and `end`, in [0, 1]. The authors prune in one step and release all
    weights in one step. The cosine is that of the library fasterai.

    Args:
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.0.
        end: Fraction of training at which the network is dense again, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, or if `updates` is not a positive integer or None.

    Source:
        Han et al., "DSD: Dense-Sparse-Dense Training for Deep Neural Networks" (ICLR 2017).

    Examples:
        >>> [DSD()(t) for t in (0.0, 0.5, 1.0)]
        [0.0, 1.0, 0.0]
    """

    final = 0.0

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - 2 * p))) / 2
