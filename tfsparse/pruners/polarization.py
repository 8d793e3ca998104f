"""Polarization: a gate per channel, which is learnt with the weights and pushed to 0 or 1."""

import itertools

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Polarization(ScorePruner):
    """Learn a gate per channel together with the weights, and push it to 0 or 1.

        forward:    p = sigmoid(a - threshold);  b = 1 if p >= 0.5 else 0;  w' = w * b
        backward:   dL/dw = dL/dw' * b           a pruned channel stands still, and its gate goes on
                    dL/db = sum of w * dL/dw' over the weights w of the channel
                    db/dp = 1                    straight-through: b counts as p
        every step: a = a - rate * p (1 - p) * (dL/db / rms(dL/db) + strength * (1 - 2 p))       at first a = 0

    The threshold lies where b has as many zeros as the schedule asks for: halfway between the highest a of a pruned
    channel and the lowest a of a kept one. So the target is reached exactly. A pruned channel returns with the weights
    that it had, once its a is high enough; if a ReLU makes it zero whatever its gate is, only the term with `strength`
    moves its a. A gate near 0 or 1 hardly moves, because p (1 - p) is near 0. rms is the root mean square over the
    channels of a layer.

    The loss is ours: L + strength * (mean p (1 - p) + (mean b - density)^2), in which the threshold keeps the last term
    at 0. Of the source only the abstract was read, and we know no code of its authors. It names binary gates, a loss
    that polarises them, a sparsity that the user sets, and one training. We do not claim to do what it does. Ours, too:
    the division by rms, so that rate and strength mean the same for each loss and each width.

    A channel is a column of a Dense kernel, or a filter of a convolution. After training `tfsparse.shrink` removes the
    pruned channels. Leave the last layer dense, whose channels are the outputs of the model: `skip_last=True`. The
    optimizer holds the gates and the dense weights and saves them. The masks are computed at every step until the end
    of training, whatever the schedule's `updates`. If you assign to a model variable once training has begun, call
    `optimizer.apply_masks()` to make the assigned value the new w.

    Args:
        granularity: "channel", the only choice.
        scope: "layer": each layer loses its own fraction of channels. "global": one threshold for the channels of all
            layers. Default: "layer".
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        rate: Learning rate of the gates, > 0. Default: 0.1.
        strength: Weight of the polarising term, in multiples of rms(dL/db), >= 0. Default: 1.0.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Zhi et al., "Learning a Consensus Sub-Network with Polarization Regularization and One Pass Training" (arXiv
        2302.10798): the idea.

    Examples:
        >>> half = tfsparse.Polynomial(start=0.0, end=0.5)
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(half, 0.5, "polarization", skip_last=True)])
        >>> small = tfsparse.shrink(model)
    """

    monotone = False
    needs_gradients = True
    accumulates = True
    straight_through = True

    def __init__(
        self,
        granularity="channel",
        scope: str = "layer",
        allocation: str = "uniform",
        *,
        rate: float = 0.1,
        strength: float = 1.0,
    ):
        if granularity != "channel":
            raise ValueError(
                f'Polarization got granularity={granularity!r}: expected "channel", since each channel has a gate. '
                f"Write Polarization(), or Movement({granularity!r}), which learns a score for each weight."
            )
        super().__init__(granularity, scope, allocation)
        if not rate > 0:
            raise ValueError(f"Polarization got rate={rate!r}: expected a number above 0, for example rate=0.1.")
        if not strength >= 0:
            raise ValueError(f"Polarization got strength={strength!r}: expected a number >= 0, such as strength=1.0.")
        self.rate, self.strength = rate, strength

    def sum_shape(self, shape):
        return shape[-1:]

    def accumulate(self, sums, weights, gradients, masks):
        kept = map(self._granularity.pool_mask, masks)
        gates = list(zip(sums, map(_gate_gradient, weights, gradients), kept, strict=True))
        together = [gates] if self.is_global else [[gate] for gate in gates]
        return itertools.chain.from_iterable(map(self._stepped, together))

    def _stepped(self, gates):
        """Return each a after a step, given those with one threshold: `(a, dL/db / rms, 0 where pruned)` per weight."""
        a, gradient, kept = map(ops.concatenate, zip(*gates, strict=True))
        p = ops.sigmoid(a - _threshold(a, kept))
        a = a - self.rate * p * (1 - p) * (gradient + self.strength * (1 - 2 * p))
        sizes = [own.shape[0] for own, *_ in gates]
        return [a[end - size : end] for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]

    def score(self, weight, gradient, mask):
        gate = ops.cast(gradient, "float32")
        positive = ops.where(gate > 0, 1 + gate, 1 / (1 + ops.maximum(-gate, 0)))  # in the order of the gates
        return ops.broadcast_to(positive, weight.shape)

    def backward(self, gradient, mask):
        return gradient * ops.cast(mask, gradient.dtype)


def _gate_gradient(weight, gradient):
    """Return dL/db / rms(dL/db) of the channels of a weight."""
    product = ops.cast(weight, "float32") * ops.cast(gradient, "float32")
    gradient = ops.sum(product, axis=tuple(range(len(weight.shape) - 1)))
    return gradient / ops.maximum(ops.sqrt(ops.mean(ops.square(gradient))), 1e-12)


def _threshold(a, kept):
    """Return the middle between the highest pruned and the lowest kept a above it; the lowest a if none is pruned.

    Below the threshold there may be kept channels of a layer that would lose too many.
    """
    highest = ops.max(ops.where(kept > 0, -float("inf"), a))
    lowest = ops.min(ops.where(ops.logical_and(kept > 0, a >= highest), a, float("inf")))
    return ops.where(ops.isfinite(highest), (highest + lowest) / 2, lowest)
