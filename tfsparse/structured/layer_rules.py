"""What layers with a kernel, a bias and an activation have in common."""

import abc
import dataclasses

import numpy as np
from keras import ops

from tfsparse.structured import elementwise, rules
from tfsparse.structured.channel_info import ChannelInfo, not_constant


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """What a linear layer makes of constant inputs.

    Args:
        connected: (inputs, outputs). True where any weight connects the two channels.
        weights: (inputs, outputs). The sum of the weights over all positions of the kernel.
        has_borders: Whether some positions have another sum, as beside zero padding.
    """

    connected: np.ndarray
    weights: np.ndarray
    has_borders: bool

    def constant_outputs(self, values, bias) -> np.ndarray:
        """Return the values of constant outputs, NaN for the others."""
        varies = ~self.is_foldable(values)
        return np.where(self.connected[varies].any(axis=0), np.nan, bias + self.contribution(values, ~varies))

    def contribution(self, values, selected) -> np.ndarray:
        """Return what the selected inputs, all of them constant, add to the outputs."""
        rows = np.flatnonzero(selected & (values != 0))
        return values[rows] @ self.weights[rows]

    def is_foldable(self, values) -> np.ndarray:
        """Return which inputs only add a constant to the outputs."""
        return same_at_every_position(values, self.has_borders)


def same_at_every_position(values, has_borders: bool) -> np.ndarray:
    """Return which channels are the same at every position: constants, but beside zero padding only zero."""
    return np.isfinite(values) & ((values == 0) | (not has_borders))


class KernelRule(rules.Rule):
    """A layer with a kernel, and with or without bias and activation."""

    def apply(self, node, inputs, tracer):
        layer, rank = node.operation, len(inputs[0].shape)
        info = tracer.along_axis(inputs[0], tracer.channel_axis(layer, rank))
        if len(inputs) > 1 or info is None or not is_plain(layer):
            return rules.UNKNOWN.apply(node, inputs, tracer)
        ids = self.output_channels(layer, info.ids, tracer)
        values = self._activated(layer, self.output_values(layer, info, ids, tracer))
        output = ChannelInfo(node.outputs[0].shape, info.axis, ids, values)
        if not elementwise.is_elementwise(layer.activation):
            tracer.sets.freeze(ids, f"{layer.activation.__name__} of {layer.name!r} mixes them")
        if elementwise.is_linear(layer.activation):
            return [output]
        return [tracer.record_activation(node, output, elementwise.gives_zeros(layer.activation))]

    @abc.abstractmethod
    def output_channels(self, layer, ids, tracer) -> np.ndarray:
        """Return the ids of the outputs, and tell the tracer which variables have which channels."""

    @abc.abstractmethod
    def output_values(self, layer, info, ids, tracer) -> np.ndarray:
        """Return the constant values of the outputs before the activation."""

    def _activated(self, layer, values):
        is_constant = np.isfinite(values)
        if not is_constant.any() or layer.activation is None:
            return values
        if not elementwise.is_elementwise(layer.activation):
            return not_constant(len(values))
        result = layer.activation(ops.convert_to_tensor(np.where(is_constant, values, 0)[None].astype("float32")))
        return np.where(is_constant, ops.convert_to_numpy(result).astype("float64")[0], np.nan)


class LinearRule(KernelRule):
    """Every output is a weighted sum over input channels, so the outputs are new channels."""

    def output_channels(self, layer, ids, tracer):
        outputs = tracer.sets.make_sets(getattr(layer, self.width_argument))
        self.assign(layer, ids, outputs, tracer)
        if layer.use_bias:
            tracer.assign(layer, layer.bias, 0, outputs, "out")
        tracer.resize(layer, lambda num_kept: {self.width_argument: num_kept(outputs)})
        return outputs

    def output_values(self, layer, info, ids, tracer):
        linear_map = self.linear_map(layer)
        tracer.record_linear_call(layer, info, ids, linear_map)
        return linear_map.constant_outputs(info.values, bias(layer))

    @property
    @abc.abstractmethod
    def width_argument(self) -> str:
        """The layer's argument that is the number of its output channels."""

    @abc.abstractmethod
    def assign(self, layer, inputs, outputs, tracer):
        """Tell the tracer which axes of the kernels have these channels."""

    @abc.abstractmethod
    def linear_map(self, layer) -> LinearMap:
        """Return what the layer makes of constant inputs."""


def is_plain(layer) -> bool:
    """Return whether a layer has neither LoRA nor an integer kernel."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(layer, "lora_enabled", False)


def has_borders(layer) -> bool:
    """Return whether a convolution reads zeros beside its input."""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def bias(layer) -> np.ndarray | float:
    """Return the layer's bias, or zero."""
    return numpy(layer.bias) if layer.use_bias else 0.0


def numpy(variable) -> np.ndarray:
    """Return a variable's value."""
    return ops.convert_to_numpy(variable).astype("float32")
