"""RigL: the rigged lottery."""

from keras import ops

from tfsparse.pruners.drop_and_grow import DropAndGrow
from tfsparse.pruners.pruner import pruners


@pruners.register
class RigL(DropAndGrow):
    """At every update drop the smallest weights and grow as many where the gradient is largest.

        kept = the n - k largest |w| of the weights that are not pruned
        growth = |dL/dw|                                        for n and k see `DropAndGrow`

    The gradient is that of the sparse network for the global batch. With gradient accumulation it is that of the last
    micro-batch.

    The authors skip the optimizer's step at a mask update. Here the step is made, with the old masks, so that no batch
    is lost. Weights that have grown need time to become large: in short trainings use fewer updates, at least 100
    steps apart.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, or `{"dense": ..., "conv": ...}` of two of these.
            Default: "weight".
        scope: "layer", the only choice.
        allocation: "erk" or "uniform". Default: "erk".
        drop_fraction: Fraction of the kept weights that the first update exchanges, in (0, 1]. It falls as half a
            cosine. Default: 0.3.
        end: Fraction of training from which nothing is exchanged, in (0, 1]. Default: 0.75.
        seed: Seed of the first random mask. Default: 0.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Evci et al., "Rigging the Lottery: Making All Tickets Winners" (ICML 2020), algorithm 1. The authors update the
        masks every 100 of 32,000 steps.

    Examples:
        >>> schedule = tfsparse.Constant(updates=20)
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(schedule, 0.9, tfsparse.RigL())])
    """

    needs_gradients = True

    def growth(self, gradient, mask, index):
        return ops.abs(ops.cast(gradient, "float32"))
