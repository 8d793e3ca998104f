"""Pruning by a first-order Taylor expansion."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Taylor(ScorePruner):
    """Prune what would change the loss least, by the squares of first-order terms.

        score = (w * dL/dw)^2

    For single weights the order is that of `Saliency`. In channels and blocks the squares weigh large terms more.
    Terms below 1e-19 tie, since their squares are zero in float32. The gradient is that of one step, as in `Saliency`.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8.

    Examples:
        >>> tfsparse.Prune("one_cycle", 0.5, tfsparse.pruners.Taylor("channel"))
    """

    needs_gradients = True

    def score(self, weight, gradient, mask):
        return ops.square(weight * ops.cast(gradient, weight.dtype))
