"""Wanda: pruning by weights and activations."""

from keras import ops

from tfsparse.pruners.calibrated import CalibratedPruner
from tfsparse.pruners.pruner import pruners


@pruners.register
class Wanda(CalibratedPruner):
    """Prune a trained network by its weights and the inputs that they meet: of each output the same number.

        value = |w| * norm of the entry's input over the data
        score = rank of the value among those of its output

    Inputs are those of inference. For a convolution the input of an entry is a pixel of each patch. The layers may be
    Dense, Conv2D, and EinsumDense as in MultiHeadAttention.

    Args:
        granularity: "weight" or "n:m" such as "2:4". Default: "weight".
        scope: "layer", the only choice.
        allocation: "uniform" or "erk". Default: "uniform".

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models" (ICLR 2024).

    Examples:
        >>> tfsparse.prune(model, 0.6, "wanda", data=x[:512], recover=True)
    """

    def __init__(self, granularity="weight", scope: str = "layer", allocation: str = "uniform"):
        super().__init__(granularity, scope, allocation)
        if self.scope != "layer":
            raise ValueError('Wanda got scope="global": expected "layer", since all outputs keep as many: Wanda().')
        if self.granularity != "weight" and not self._granularity.has_pattern:
            raise ValueError(
                f'Wanda got granularity={self.granularity!r}: expected "weight" or a pattern such as "2:4", since '
                "entries are ranked within each output."
            )

    def sensitivities(self, calibration, weights):
        squares = [ops.sum(ops.square(inputs), axis=0) for inputs in calibration.layer_inputs(weights)]
        matrices = [ops.reshape(w, s) for w, s in zip(weights, calibration.matrix_shapes(), strict=True)]
        values = [ops.abs(m) * ops.expand_dims(ops.sqrt(s), 1) for m, s in zip(matrices, squares, strict=True)]
        return [ops.reshape(_ranks(v), w.shape) for v, w in zip(values, weights, strict=True)]

    def score(self, weight, gradient, mask):
        return ops.cast(ops.abs(gradient), weight.dtype) * mask


def _ranks(values):
    """Return the rank of each entry in its column, from 1."""
    return ops.cast(1 + ops.argsort(ops.argsort(values, axis=0), axis=0), "float32")
