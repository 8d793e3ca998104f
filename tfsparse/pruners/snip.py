"""SNIP: single-shot network pruning."""

from tfsparse.pruners.calibrated import FirstOrderPruner
from tfsparse.pruners.pruner import pruners


@pruners.register
class SNIP(FirstOrderPruner):
    """Prune before training the connections without which the loss of one batch would change least.

        score = |w * dL/dw|                         for rounds r = 1, ..., R, see `CalibratedPruner`

    With one round, as in the paper, a high sparsity can empty a layer. Rounds repair this: a layer that gets thin gets
    higher scores. BatchNormalization uses the statistics of the batch.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        rounds: Number R of rounds, >= 1; each computes the gradient of the batch. 1: single-shot. Default: 100.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity" (ICLR 2019). The
        rounds: de Jorge et al., "Progressive Skeletonization" (ICLR 2021); Verdenius et al., "Pruning via Iterative
        Ranking of Sensitivity Statistics" (2020).

    Examples:
        >>> snip = tfsparse.Prune("constant", 0.95, "snip", data=(x[:256], y[:256]))
        >>> model.fit(x, y, epochs=10, callbacks=[snip])
    """

    def sensitivities(self, calibration, weights):
        return calibration.gradients(calibration.loss, weights)
