"""RigL: the rigged lottery."""

from keras import ops

from tfsparse.pruners.drop_and_grow import DropAndGrow
from tfsparse.pruners.pruner import pruners


@pruners.register
class RigL(DropAndGrow):
    """At every update the smallest weights are dropped and as many grow where the gradient is largest.

        kept = the n - k largest |w| of the living;  growth = |dL/dw|               n, k: see `DropAndGrow`

    The gradient is that of the sparse network's global batch; with gradient accumulation, of its last micro-batch.
    Arguments and errors are those of `DropAndGrow`. The authors skip the optimizer's step where they update the masks;
    here it is taken, with the old masks, so that no batch is lost.

    What grows needs time to become large: in short trainings ask for fewer updates, 100 steps apart or more.

    Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners" (ICML 2020); they update every 100 of 32,000
    steps.

    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(tfsparse.Constant(updates=20), 0.9, tfsparse.RigL())])
    """

    needs_gradients = True

    def growth(self, gradient, mask, place):
        return ops.abs(ops.cast(gradient, "float32"))
