"""Dense, sparse, dense."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class DSD(Schedule):
    """Dense, sparse, dense: up to the target at p = 1/2 and back to none at the end.

        progress(p) = (1 + cos(pi (1 - 2 p))) / 2

    Source: Han et al., "DSD" (ICLR 2017), in fasterai's cosine form.
    """

    final = 0.0

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - 2 * p))) / 2
