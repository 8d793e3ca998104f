"""Saliency pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Saliency(ScorePruner):
    """Prune the weights without which the loss would change least, to first order.

        score = |w * dL/dw|

    The gradient is that of the step's global batch. With gradient accumulation it is that of the last micro-batch.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference" (ICLR 2017).

    Examples:
        >>> tfsparse.Prune("one_cycle", 0.9, "saliency")
    """

    needs_gradients = True

    def score(self, weight, gradient, mask):
        return ops.abs(weight * ops.cast(gradient, weight.dtype))
