"""Movement pruning."""

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Movement(ScorePruner):
    """Prune the weights that the loss moves to zero, and first those that it moves fastest.

        m = -w * dL/dw                              > 0: the step moves the weight away from zero
        score = m                                   for m > 0
                1e-30 / (1e-8 - m)                  else: below every m > 0, and in the order of m

    The authors train the sum of m over all steps as a variable of its own. Here the score is that of one step, so it
    needs no memory, and its masks depend on a single batch. With the hundreds of mask updates of a training from
    scratch this destroys the network: an important weight has large scores of both signs, and is the lowest once.

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
        Sanh, Wolf, Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning" (NeurIPS 2020).

    Examples:
        >>> tfsparse.Prune(tfsparse.Polynomial(updates=10), 0.8, "movement")
    """

    needs_gradients = True

    def score(self, weight, gradient, mask):
        movement = -weight * ops.cast(gradient, weight.dtype)
        to_zero = 1e-30 / (1e-8 + ops.maximum(-movement, 0))
        return ops.where(movement > 0, movement, to_zero) * ops.cast(mask > 0, weight.dtype)
