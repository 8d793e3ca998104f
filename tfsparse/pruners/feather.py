"""Feather: a straight-through thresholding that shrinks little."""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Feather(ScorePruner):
    """Dense weights are trained through a threshold: what is pruned goes on learning and may return at any step.

        forward:   w' = sign(w) (|w|^3 - tau^3)_+^(1/3)       tau: the magnitude below which the sparsity's share lies
        backward:  dL/dw = dL/dw' * (1 if |w| > tau else theta)

    The model's variables hold w', zero wherever the mask is; w lives in the optimizer, which saves it. The masks are
    computed at every step to the end of training, whatever the schedule's `updates`. What you write to a variable once
    training has begun is overwritten at the next step, unless `optimizer.apply_masks()` takes it for the new w. tau is
    the largest pruned magnitude, of all layers together with scope="global"; a layer at the floor of the global rule
    has its own. Weight decay is that of the dense weights.

    Args:
        granularity: "weight"; there is no other.
        scope: "global" or "layer".
        allocation: "uniform", or with scope="layer" also "erk".
        theta: in [0, 1]; the authors take 0.5 for a sparsity above 0.95 and 1 below.

    Raises: ValueError for anything else.

    Source: Glentis Georgoulakis et al., "Feather: An Elegant Solution to Effective DNN Sparsification" (BMVC 2023); the
    sparsity rises as a cubic over the first half of training.

    >>> half = tfsparse.Polynomial(start=0.0, end=0.5)
    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(half, 0.9, tfsparse.Feather())])
    """

    monotone = False
    straight_through = True

    def __init__(self, granularity="weight", scope: str = "global", allocation: str = "uniform", theta: float = 1.0):
        if granularity != "weight":
            raise ValueError(
                f"Feather got granularity={granularity!r}: expected \"weight\", since single weights are shrunk by the "
                f"threshold. Write Feather(), or Magnitude({granularity!r})."
            )
        super().__init__(granularity, scope, allocation)
        if not 0 <= theta <= 1:
            raise ValueError(f"Feather got theta={theta!r}: expected a number in [0, 1], for example theta=0.5.")
        self.theta = theta

    def score(self, weight, gradient, mask):
        return ops.abs(weight)

    def forward(self, weights, masks):
        sizes = [ops.abs(ops.cast(w, "float32")) for w in weights]
        thresholds = self._thresholds(sizes, masks)
        return [_shrunk(*each) for each in zip(weights, sizes, thresholds, masks, strict=True)]

    def backward(self, gradient, mask):
        if self.theta == 1:
            return gradient
        return gradient * ops.cast(ops.where(mask > 0, 1.0, self.theta), gradient.dtype)

    def _thresholds(self, sizes, masks):
        """The largest pruned magnitude, of all layers or of each; 0 where nothing is pruned."""
        own = [ops.max(ops.where(m > 0, 0.0, s)) for s, m in zip(sizes, masks, strict=True)]
        if not self.is_global:
            return own
        common = ops.max(ops.stack(own))
        smallest = [ops.min(ops.where(m > 0, s, float("inf"))) for s, m in zip(sizes, masks, strict=True)]
        # a layer at its floor keeps weights below the common threshold, which would all vanish
        return [ops.where(s >= common, common, t) for s, t in zip(smallest, own, strict=True)]


def _shrunk(weight, size, threshold, mask):
    """The forward rule as w (1 - r^3)^(1/3), r = tau / |w|, which neither under- nor overflows; w itself at tau = 0."""
    size = ops.maximum(size, 1e-30)
    above = ops.maximum(size - threshold, 0.0) / size
    ratio = ops.minimum(threshold / size, 1.0)
    factor = ops.power(above * (1.0 + ratio + ops.square(ratio)), 1 / 3)
    return backend_ops.masked(weight * ops.cast(factor, weight.dtype), mask)
