"""Half a cosine: slow, fast, slow."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Cosine(Schedule):
    """Half a cosine: slow, fast, slow.

        progress(p) = (1 + cos(pi (1 - p))) / 2
    """

    def progress(self, p):
        return (1 + ops.cos(math.pi * (1 - p))) / 2
