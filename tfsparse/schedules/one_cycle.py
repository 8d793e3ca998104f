"""One-Cycle Pruning: one sigmoid over all of training."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class OneCycle(Schedule):
    """One-Cycle Pruning: one sigmoid from the first step to the last, fastest at p = beta / alpha.

        progress(p) = (1 + exp(-alpha + beta)) / (1 + exp(-alpha p + beta))

    Source: Hubens et al., "One-Cycle Pruning" (ICIP 2022); alpha=14, beta=5 are its published values (the fasterai
    library uses beta=6). Note progress(0) = 0.0067, not 0.

    >>> round(OneCycle()(0.5), 6)
    0.880906
    """

    def __init__(self, alpha: float = 14.0, beta: float = 5.0, start: float = 0.0, end: float = 1.0, updates=1000):
        super().__init__(start, end, updates)
        self.alpha, self.beta = alpha, beta

    def progress(self, p):
        return (1 + math.exp(-self.alpha + self.beta)) / (1 + ops.exp(-self.alpha * p + self.beta))
