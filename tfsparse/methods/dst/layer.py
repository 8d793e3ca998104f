"""The layer with trainable thresholds for Keras 3."""

import keras

from tfsparse.methods.dst.layer_core import ThresholdedLayerBase
from tfsparse.pruners import selection


@keras.saving.register_keras_serializable(package="tfsparse")
class Thresholded(ThresholdedLayerBase, keras.layers.Wrapper):
    """A layer that prunes itself: weights below trainable thresholds do not count.

        forward:       kernel * 1[|kernel| > threshold]
        backward:      a long-tailed surrogate stands for the derivative of the step, see `thresholds.masked`
        losses:        + alpha * sum(exp(-threshold))
        after a step:  threshold = 0 where at most `floor` of the kernel is kept

    Pruned weights keep their values, are trained on, and return when they grow above their threshold. The model's
    optimizer trains the thresholds like all other variables. Its weight decay, if any, pulls them to 0.

    Args:
        layer: A layer with kernels: Dense, EinsumDense, convolutions, recurrent layers, and layers around such layers.
        threshold: One threshold per kernel ("scalar"), per output unit ("vector"; of LSTM and GRU per unit of every
            gate) or per weight ("matrix"). Default: "vector".
        alpha: Weight of the penalty, >= 0; the larger, the sparser. The penalty is a sum over thresholds, so its effect
            depends on the width. The variable `alpha` of a built layer may be assigned during training, as
            `tfsparse.DST` does. Default: 5e-4.
        floor: Fraction in [0, 1) of kept weights at which the thresholds of a kernel start again from 0. Default: None,
            which is 0.01, and 0 for recurrent cells.
        sparsity: Fraction of zeros that all such layers of the model shall have together, in [0, 1): the callback `DST`
            sets it, and what looks at a file compares with it. Default: None, no target.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If the layer has no kernels, or an option is out of range.

    Source:
        Liu et al., "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers"
        (ICLR 2020), and the authors' code.

    Examples:
        >>> keras.Sequential([keras.Input((784,)), Thresholded(keras.layers.Dense(300), alpha=5e-4)])
    """

    _keras = keras
    _autocast_option = "autocast"
    _is_kernel = staticmethod(selection.is_prunable)

    def __init__(
        self,
        layer,
        threshold: str = "vector",
        alpha: float = 5e-4,
        floor: float | None = None,
        sparsity: float | None = None,
        **kwargs,
    ):
        super().__init__(layer, threshold, alpha, floor, sparsity, **kwargs)
        self.supports_masking = layer.supports_masking

    def call(self, inputs, *args, **kwargs):
        """Call the layer with masked kernels in place of its kernels. Other variables that it writes are assigned."""
        masked = dict(zip(map(id, self.kernels), self.masked_kernels(), strict=True))
        variables = self.layer.variables
        state = [(v, masked.get(id(v), v.value)) for v in variables]
        with keras.StatelessScope(state_mapping=state, collect_losses=True) as scope:
            before = [scope.get_current_value(v) for v in variables]
            outputs = self.layer(inputs, *args, **kwargs)
        for variable, old in zip(variables, before, strict=True):
            new = scope.get_current_value(variable)
            if new is not old:
                variable.assign(new)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def get_build_config(self):
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config):
        if not self.layer.built:
            self.layer.build_from_config(config["layer"])
        self.build()
