"""Magnitude pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Magnitude(ScorePruner):
    """The smallest weights go.

        score = |w|

    Pruned weights are exactly zero and so rank lowest: masks only shrink while the sparsity grows.

    >>> Magnitude().masks([w], [None], [np.ones_like(w)], [0.5])
    """

    def score(self, weight, gradient, mask):
        return ops.abs(weight)
