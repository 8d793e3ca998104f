"""Magnitude pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Magnitude(ScorePruner):
    """Prune the weights with the smallest magnitudes.

        score = |w|

    Pruned weights are zero and so have the lowest score: a pruned weight stays pruned while the sparsity grows.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. A unit
            of several weights has their mean as its score. Default: "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (NeurIPS 2015).

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("one_cycle", 0.9, tfsparse.Magnitude(scope="layer"))])
    """

    def score(self, weight, gradient, mask):
        return ops.abs(weight)
