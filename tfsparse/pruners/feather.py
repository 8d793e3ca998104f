"""Feather: dense weights that are trained through a threshold which changes kept weights little."""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Feather(ScorePruner):
    """Train dense weights w through a threshold; the model computes with sparse weights w'.

        forward:   w' = sign(w) * max(|w|^3 - tau^3, 0)^(1/3)
        backward:  dL/dw = dL/dw' * (1 if |w| > tau else theta)
        tau = the largest |w| that is pruned

    Pruned weights are trained on and may return at any step. The model's variables hold w', which is zero where the
    mask is; the optimizer holds w and saves it. The masks are computed at every step until the end of training,
    whatever the schedule's `updates`. Weight decay acts on w.

    With scope="global" all weights have the same tau. A layer that would lose too much keeps more weights than the
    common threshold leaves it; such a layer has a tau of its own.

    If you assign to a model variable once training has begun, the next step overwrites the value. Call
    `optimizer.apply_masks()` to make the assigned value the new w.

    Args:
        granularity: "weight", the only choice.
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        theta: Factor of the gradients of pruned weights, in [0, 1]. The authors take 0.5 for a sparsity above 0.95 and
            1 below. Default: 1.0.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Glentis Georgoulakis et al., "Feather: An Elegant Solution to Effective DNN Sparsification" (BMVC 2023). There
        the sparsity rises as a cubic over the first half of training.

    Examples:
        >>> half = tfsparse.Polynomial(start=0.0, end=0.5)
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(half, 0.9, tfsparse.Feather())])
    """

    monotone = False
    straight_through = True

    def __init__(
        self, granularity="weight", scope: str | None = None, allocation: str = "uniform", *, theta: float = 1.0
    ):
        if granularity != "weight":
            raise ValueError(
                f"Feather got granularity={granularity!r}: expected \"weight\", since the threshold changes single "
                f"weights. Write Feather(), or Magnitude({granularity!r})."
            )
        super().__init__(granularity, scope, allocation)
        if not 0 <= theta <= 1:
            raise ValueError(f"Feather got theta={theta!r}: expected a number in [0, 1], for example theta=0.5.")
        self.theta = theta

    def score(self, weight, gradient, mask):
        return ops.abs(weight)

    def forward(self, weights, masks):
        pairs = list(zip(weights, masks, strict=True))
        extremes = list(backend_ops.in_turn(_extremes(*pair) for pair in pairs))
        common = ops.max(ops.stack([largest for largest, _ in extremes])) if self.is_global else None
        for (weight, mask), (largest, smallest) in zip(pairs, extremes, strict=True):
            # a layer that keeps weights below the common threshold has its own: else these weights would become zero
            threshold = largest if common is None else ops.where(smallest >= common, common, largest)
            yield _shrink(weight, threshold, mask)

    def backward(self, gradient, mask):
        if self.theta == 1:
            return gradient
        return gradient * ops.cast(ops.where(mask > 0, 1.0, self.theta), gradient.dtype)


def _extremes(weight, mask):
    """Return the largest magnitude that is pruned, or 0, and the smallest that is kept."""
    magnitude = ops.abs(ops.cast(weight, "float32"))
    pruned, kept = ops.where(mask > 0, 0.0, magnitude), ops.where(mask > 0, magnitude, float("inf"))
    return ops.max(pruned), ops.min(kept)


def _shrink(weight, threshold, mask):
    """Return w (1 - r^3)^(1/3) with r = tau / |w|: the forward rule without underflow or overflow; w for tau = 0."""
    magnitude = ops.maximum(ops.abs(ops.cast(weight, "float32")), 1e-30)
    above = ops.maximum(magnitude - threshold, 0.0) / magnitude
    ratio = ops.minimum(threshold / magnitude, 1.0)
    factor = ops.power(above * (1.0 + ratio + ops.square(ratio)), 1 / 3)
    return backend_ops.masked(weight * ops.cast(factor, weight.dtype), mask)
