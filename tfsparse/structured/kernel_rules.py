"""The layers with kernels: dense and convolutional layers and embeddings, by the axes of their kernels."""

import numpy as np
from keras import layers

from tfsparse.structured import layer_rules, rules
from tfsparse.structured.channel_info import ChannelInfo, not_constant
from tfsparse.structured.layer_rules import KernelRule, LinearMap, LinearRule, has_borders, numpy


class Convolution(LinearRule):
    """Kernel (..., inputs, outputs)."""

    width_argument = "filters"
    axes = (-2, -1)
    has_borders = staticmethod(has_borders)

    def assign(self, layer, inputs, outputs, tracer):
        rank = len(layer.kernel.shape)
        for axis, ids, role in zip(self.axes, (inputs, outputs), ("in", "out"), strict=True):
            tracer.assign(layer, layer.kernel, rank + axis, ids, role)

    def linear_map(self, layer):
        kernel = np.moveaxis(numpy(layer.kernel), self.axes, (-2, -1))
        spatial = tuple(range(kernel.ndim - 2))
        weights = kernel.sum(axis=spatial) if spatial else kernel
        return LinearMap((kernel != 0).any(axis=spatial), weights, self.has_borders(layer))


class Dense(Convolution):
    """Kernel (inputs, outputs)."""

    width_argument = "units"
    has_borders = staticmethod(lambda layer: False)


class ConvolutionTranspose(Convolution):
    """Kernel (..., outputs, inputs). With strides, output positions are sums of different weights."""

    axes = (-1, -2)
    has_borders = staticmethod(lambda layer: True)


class GroupedConvolution(Convolution):
    """Kernel (..., inputs / groups, outputs). All groups keep one size, so their channels are coupled."""

    def output_channels(self, layer, ids, tracer):
        outputs = super().output_channels(layer, self._couple_groups(layer, ids, tracer), tracer)
        self._couple_groups(layer, outputs, tracer)
        return outputs

    def linear_map(self, layer):
        one, groups = super().linear_map(layer), layer.groups
        is_inside = np.kron(np.eye(groups), np.ones((one.weights.shape[0], one.weights.shape[1] // groups)))
        connected, weights = (np.tile(array, (groups, 1)) for array in (one.connected, one.weights))
        return LinearMap(connected & (is_inside > 0), weights * is_inside, one.has_borders)

    def _couple_groups(self, layer, ids, tracer):
        """Couple every group with the first one, and return that."""
        groups = ids.reshape(layer.groups, -1)
        tracer.sets.union(groups, np.tile(groups[0], (layer.groups, 1)))
        return groups[0]


class SeparableConvolution(LinearRule):
    """Kernels (..., inputs, multiplier), then (1, 1, inputs * multiplier, outputs)."""

    width_argument = "filters"

    def assign(self, layer, inputs, outputs, tracer):
        rank, repeated = len(layer.depthwise_kernel.shape), np.repeat(inputs, layer.depth_multiplier)
        tracer.assign(layer, layer.depthwise_kernel, rank - 2, inputs, "in")
        tracer.assign(layer, layer.pointwise_kernel, rank - 2, repeated, "in")
        tracer.assign(layer, layer.pointwise_kernel, rank - 1, outputs, "out")

    def linear_map(self, layer):
        depthwise, pointwise = numpy(layer.depthwise_kernel), numpy(layer.pointwise_kernel)
        spatial, pointwise = tuple(range(depthwise.ndim - 2)), pointwise.reshape(*depthwise.shape[-2:], -1)
        connected = ((depthwise != 0).any(axis=spatial)[..., None] & (pointwise != 0)).any(axis=1)
        weights = (depthwise.sum(axis=spatial)[..., None] * pointwise).sum(axis=1)
        return LinearMap(connected, weights, has_borders(layer))


class DepthwiseConvolution(KernelRule):
    """Kernel (..., inputs, multiplier): every input channel has its own kernels and becomes `multiplier` outputs."""

    def output_channels(self, layer, ids, tracer):
        outputs = np.repeat(ids, self.multiplier(layer))
        self.assign(layer, ids, outputs, tracer)
        if layer.use_bias:
            tracer.assign(layer, layer.bias, 0, outputs, "per_channel")
        return outputs

    def output_values(self, layer, info, ids, tracer):
        kernel = numpy(layer.kernel)
        spatial = tuple(range(kernel.ndim - 2))
        weights, is_zero = kernel.sum(axis=spatial).ravel(), (kernel == 0).all(axis=spatial).ravel()
        inputs = np.repeat(info.values, self.multiplier(layer))
        is_constant = layer_rules.same_at_every_position(inputs, has_borders(layer))
        outputs = np.where(is_constant, inputs, 0) * weights + layer_rules.bias(layer)
        return np.where(is_constant | is_zero, outputs, np.nan)

    def multiplier(self, layer) -> int:
        """Return the number of outputs of each channel."""
        return layer.depth_multiplier

    def assign(self, layer, inputs, outputs, tracer):
        """Tell the tracer which axis of the kernel has these channels."""
        tracer.assign(layer, layer.kernel, len(layer.kernel.shape) - 2, inputs, "per_channel")


class OneChannelPerGroup(DepthwiseConvolution):
    """A grouped convolution with as many groups as inputs: kernel (..., 1, outputs)."""

    def multiplier(self, layer):
        return layer.filters // layer.groups

    def assign(self, layer, inputs, outputs, tracer):
        tracer.assign(layer, layer.kernel, len(layer.kernel.shape) - 1, outputs, "per_channel")
        tracer.resize(layer, lambda num_kept: {"groups": num_kept(inputs), "filters": num_kept(outputs)})


class AnyConvolution(rules.Rule):
    """One of three rules, by the number of groups."""

    def apply(self, node, inputs, tracer):
        layer = node.operation
        if layer.groups == 1:
            return _CONVOLUTION.apply(node, inputs, tracer)
        return (_DEPTHWISE if layer.kernel.shape[-2] == 1 else _GROUPED).apply(node, inputs, tracer)


class Embedding(rules.Rule):
    """Table (vocabulary, outputs)."""

    def apply(self, node, inputs, tracer):
        layer = node.operation
        if not layer_rules.is_plain(layer):
            return rules.UNKNOWN.apply(node, inputs, tracer)
        outputs = tracer.sets.make_sets(layer.output_dim)
        tracer.assign(layer, layer.embeddings, 1, outputs, "out")
        tracer.resize(layer, lambda num_kept: {"output_dim": num_kept(outputs)})
        return [ChannelInfo(node.outputs[0].shape, -1, outputs, not_constant(len(outputs)))]


_CONVOLUTION, _GROUPED, _DEPTHWISE = Convolution(), GroupedConvolution(), OneChannelPerGroup()

for _kinds, _rule in (
    ((layers.Dense,), Dense()),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), AnyConvolution()),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), DepthwiseConvolution()),
    ((layers.SeparableConv1D, layers.SeparableConv2D), SeparableConvolution()),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), ConvolutionTranspose()),
    ((layers.Embedding,), Embedding()),
):
    for _kind in _kinds:
        rules.register(_kind, _rule)
