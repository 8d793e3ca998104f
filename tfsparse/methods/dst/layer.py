"""DST: a layer whose mask is a function of trainable thresholds."""

import keras

from tfsparse.methods.dst.layer_core import ThresholdedLayerBase
from tfsparse.pruners import selection


@keras.saving.register_keras_serializable(package="tfsparse")
class Thresholded(ThresholdedLayerBase, keras.layers.Wrapper):
    """A layer that prunes itself: weights below trainable thresholds do not count.

        forward:    kernel * 1[|kernel| > threshold]
        backward:   for the derivative of the step the long-tailed `thresholds.surrogate`, see `thresholds.masked`
        losses:     + alpha * sum(exp(-threshold))
        after a step: threshold = 0 where at most `floor` of the kernel lives

    Weights that are pruned keep their values and are trained on: they return when they outgrow their threshold. The
    thresholds are trained by the model's optimizer like all else, its weight decay included, which pulls them to 0.

    Args:
        layer: a layer with kernels: Dense, EinsumDense, convolutions, recurrent layers, and layers around such layers.
        threshold: one per kernel ("scalar"), per output unit ("vector"; of LSTM and GRU per unit of every gate), or per
            weight ("matrix").
        alpha: weight of the penalty, >= 0; the larger, the sparser. A sum over thresholds, so it depends on the width.
            The variable `alpha` of a built layer may be assigned to while it trains; see `tfsparse.DST`.
        floor: fraction in [0, 1) of living weights at which a kernel's thresholds start again from 0; None: 0.01, and 0
            for recurrent cells.

    Raises: ValueError for a layer without kernels and for options out of range.

    Source: Liu et al., "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked
        Layers" (ICLR 2020), and the authors' code.

    >>> keras.Sequential([keras.Input((784,)), Thresholded(keras.layers.Dense(300), alpha=5e-4)])
    """

    _keras, _uncast, _is_kernel = keras, {"autocast": False}, staticmethod(selection.is_prunable)

    def __init__(self, layer, threshold: str = "vector", alpha: float = 5e-4, floor: float | None = None, **kwargs):
        super().__init__(layer, threshold, alpha, floor, **kwargs)
        self.supports_masking = layer.supports_masking

    def call(self, inputs, *args, **kwargs):
        """As the layer's own. Its variables are swapped for the time of the call: what it writes is written back."""
        masked = dict(zip(map(id, self.kernels), self._masked(), strict=True))
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
