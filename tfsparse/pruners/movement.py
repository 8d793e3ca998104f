"""Movement pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Movement(ScorePruner):
    """Prune the weights that training moves to zero, and first those that it has moved farthest.

        every step:  S = S - w * dL/dw'             dL/dw': gradient of what the model computes with
                     dL/dw = dL/dw' * mask          a pruned weight w stands still, and its S goes on
        score = S                                   for S > 0
                1e-30 / (1e-8 - S)                  else: below every S > 0, and in the order of S
                0                                   for w = 0
        w' = w * mask

    A pruned weight returns with the value that it had, as soon as its S is high enough. The model's variables hold w',
    the optimizer holds w and S and saves them: 8 bytes per weight besides the mask's one. The masks are computed at
    every step until the end of training, whatever the schedule's `updates`. If you assign to a model variable once
    training has begun, call `optimizer.apply_masks()` to make the assigned value the new w.

    The authors train S with an optimizer of its own, for fine-tuning. Here S is the plain sum, without a learning rate:
    a constant factor would not change the masks. Ours, too: one threshold for all layers, and that weights which are
    zero rank last. In a channel or a block, entries with S < 0 count as nothing.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Sanh, Wolf, Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning" (NeurIPS 2020).

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(tfsparse.Polynomial(end=0.8), 0.9, "movement")])
    """

    monotone = False
    needs_gradients = True
    accumulates = True
    straight_through = True

    def term(self, weight, gradient):
        return -ops.cast(weight, "float32") * ops.cast(gradient, "float32")

    def score(self, weight, gradient, mask):
        to_zero = 1e-30 / (1e-8 + ops.maximum(-gradient, 0))
        return ops.where(weight != 0, ops.where(gradient > 0, gradient, to_zero), 0.0)

    def backward(self, gradient, mask):
        return gradient * ops.cast(mask, gradient.dtype)
