"""Saliency pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Saliency(ScorePruner):
    """The weights whose loss would change least (to first order) go.

        score = |w * dL/dw|

    The gradient is that of the step's global batch; with gradient accumulation, of its last micro-batch.
    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference" (ICLR 2017).
    """

    needs_gradients = True

    def score(self, weight, gradient, mask):
        return ops.abs(weight * ops.cast(gradient, weight.dtype))
