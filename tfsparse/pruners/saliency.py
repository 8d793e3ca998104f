"""Saliency pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Saliency(ScorePruner):
    """Prune what would change the loss least, by first-order terms.

        score = |w * dL/dw|

    The gradient is that of one step: of its global batch, or with gradient accumulation of its last micro-batch.

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
