"""The layers that make channels of channels: dense and convolutional ones, by the axes of their kernels."""

import numpy as np
from keras import layers

from tfsparse.structured import rules
from tfsparse.structured.channel_info import Mark, varying
from tfsparse.structured.layer_rules import (
    Flow,
    Mixing,
    Producer,
    bias,
    has_borders,
    is_plain,
    numpy,
    same_everywhere,
)


class Convolution(Mixing):
    """(..., in, out)"""

    setting = "filters"
    axes = (-2, -1)

    def carry(self, layer, ids, made, walk):
        rank = len(layer.kernel.shape)
        for axis, carried, role in zip(self.axes, (ids, made), ("in", "out"), strict=True):
            walk.carry(layer, layer.kernel, rank + axis, carried, role)

    def flow(self, layer):
        kernel = np.moveaxis(numpy(layer.kernel), self.axes, (-2, -1))
        spatial = tuple(range(kernel.ndim - 2))
        sums = kernel.sum(axis=spatial) if spatial else kernel
        return Flow((kernel != 0).any(axis=spatial), sums, self.borders(layer))

    def borders(self, layer) -> bool:
        """Are there places that other weights reach?"""
        return has_borders(layer)


class Dense(Convolution):
    """(in, out)"""

    setting = "units"

    def axis(self, layer, rank, walk):
        return -1

    def borders(self, layer):
        return False


class Transposed(Convolution):
    """(..., out, in): with strides, places differ in the weights that reach them."""

    axes = (-1, -2)

    def borders(self, layer):
        return True


class Grouped(Convolution):
    """(..., in / groups, out): groups are of one size, so what one of them loses all lose."""

    def connect(self, layer, ids, walk):
        made = super().connect(layer, self._alike(layer, ids, walk), walk)
        self._alike(layer, made, walk)
        return made

    def flow(self, layer):
        part, groups = super().flow(layer), layer.groups
        mine = np.kron(np.eye(groups), np.ones((part.matrix.shape[0], part.matrix.shape[1] // groups)))
        return Flow(
            np.tile(part.touches, (groups, 1)) & (mine > 0), np.tile(part.matrix, (groups, 1)) * mine, part.borders
        )

    def _alike(self, layer, ids, walk):
        """Tie the groups to the first, and return it."""
        parts = ids.reshape(layer.groups, -1)
        walk.ties.tie(parts, np.tile(parts[0], (layer.groups, 1)))
        return parts[0]


class Separable(Mixing):
    """(..., in, multiplier), then (1, 1, in * multiplier, out)"""

    setting = "filters"

    def carry(self, layer, ids, made, walk):
        rank, spread = len(layer.depthwise_kernel.shape), np.repeat(ids, layer.depth_multiplier)
        walk.carry(layer, layer.depthwise_kernel, rank - 2, ids, "in")
        walk.carry(layer, layer.pointwise_kernel, rank - 2, spread, "in")
        walk.carry(layer, layer.pointwise_kernel, rank - 1, made, "out")

    def flow(self, layer):
        deep, points = numpy(layer.depthwise_kernel), numpy(layer.pointwise_kernel)
        spatial, wide = tuple(range(deep.ndim - 2)), points.reshape(*deep.shape[-2:], -1)
        touches = ((deep != 0).any(axis=spatial)[..., None] & (wide != 0)).any(axis=1)
        return Flow(touches, (deep.sum(axis=spatial)[..., None] * wide).sum(axis=1), has_borders(layer))


class PerChannel(Producer):
    """Convolutions of each channel with kernels of its own: the outputs are those of the input, several times each."""

    def connect(self, layer, ids, walk):
        rank = len(layer.kernel.shape)
        made = np.repeat(ids, self.multiplier(layer))
        self.carry(layer, ids, made, rank, walk)
        if layer.use_bias:
            walk.carry(layer, layer.bias, 0, made, "through")
        return made

    def values(self, layer, mark, ids, walk):
        kernel, times = numpy(layer.kernel), self.multiplier(layer)
        spatial = tuple(range(kernel.ndim - 2))
        sums, alive = kernel.sum(axis=spatial).ravel(), (kernel != 0).any(axis=spatial).ravel()
        values = np.repeat(mark.values, times)
        constant = same_everywhere(values, has_borders(layer))
        return np.where(constant | ~alive, np.where(constant, values, 0) * sums + bias(layer), np.nan)

    def multiplier(self, layer) -> int:
        """Outputs of each channel."""
        return layer.depth_multiplier

    def carry(self, layer, ids, made, rank, walk):
        """Tell `walk` what axes of the kernel are these."""
        walk.carry(layer, layer.kernel, rank - 2, ids, "through")


class AllGroups(PerChannel):
    """A grouped convolution with one channel per group: (..., 1, out)"""

    def multiplier(self, layer):
        return layer.filters // layer.groups

    def carry(self, layer, ids, made, rank, walk):
        walk.carry(layer, layer.kernel, rank - 1, made, "through")
        walk.resize(layer, lambda kept: {"groups": int(kept(ids)), "filters": int(kept(made))})


class AnyConvolution(rules.Rule):
    """One of three, by the number of groups."""

    def apply(self, node, marks, walk):
        return self._kind(node.operation).apply(node, marks, walk)

    def _kind(self, layer):
        if layer.groups == 1:
            return _CONVOLUTION
        return _ALL_GROUPS if layer.kernel.shape[-2] == 1 else _GROUPED


class Looking(rules.Rule):
    """Embedding: (vocabulary, out)"""

    def apply(self, node, marks, walk):
        layer, shape = node.operation, node.outputs[0].shape
        if not is_plain(layer):
            return rules.FREEZING.apply(node, marks, walk)
        made = walk.ties.fresh(layer.output_dim)
        walk.carry(layer, layer.embeddings, 1, made, "out")
        walk.resize(layer, lambda kept: {"output_dim": int(kept(made))})
        return [Mark(shape, -1, made, varying(len(made)))]


_CONVOLUTION, _GROUPED, _ALL_GROUPS = Convolution(), Grouped(), AllGroups()
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)

for _kinds, _rule in (
    ((layers.Dense,), Dense()),
    (_CONVOLUTIONS, AnyConvolution()),
    (_DEPTHWISE, PerChannel()),
    (_SEPARABLE, Separable()),
    (_TRANSPOSED, Transposed()),
    ((layers.Embedding,), Looking()),
):
    for _kind in _kinds:
        rules.register(_kind, _rule)
