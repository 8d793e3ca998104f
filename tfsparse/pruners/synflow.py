"""SynFlow: synaptic flow."""

from keras import ops

from tfsparse.pruners.calibrated import FirstOrderPruner
from tfsparse.pruners.pruner import pruners


@pruners.register
class Synflow(FirstOrderPruner):
    """Prune before training, without data: what carries least of the signal from the inputs to the outputs.

        R = sum of the outputs for an input of ones, where every variable v of the model is |v|
        score = |w * dR/dw|                         for rounds r = 1, ..., R, see `CalibratedPruner`

    No layer is emptied before all others are nearly empty. The model computes as in inference, and its own variables
    keep their values. In very deep or wide models R can overflow float32; then pruning raises an error.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        rounds: Number of rounds, >= 1; each computes one gradient of one row. Default: 100.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow" (NeurIPS
        2020).

    Examples:
        >>> synflow = tfsparse.Prune("constant", 0.95, "synflow")
        >>> model.fit(x, y, epochs=10, callbacks=[synflow])
    """

    def sensitivities(self, calibration, weights):
        return calibration.gradients(calibration.flow, [ops.abs(w) for w in weights])
