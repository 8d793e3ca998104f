"""The layers that make channels of channels: dense and convolutional ones."""

import abc
import dataclasses

import numpy as np
from keras import layers, ops

from tfsparse.structure import functions, rules
from tfsparse.structure.marks import Mark, varying


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """What a layer makes of constant inputs.

    Args:
        touches: (inputs, outputs), does the one reach the other by any weight?
        matrix: (inputs, outputs), sums of the weights over all places of the kernel.
        borders: are there places where the sum is another one, as near zero padding?
    """

    touches: np.ndarray
    matrix: np.ndarray
    borders: bool

    def constants(self, values, bias) -> np.ndarray:
        """The outputs that are constant, NaN for the others."""
        varies = ~self.foldable(values)
        return np.where(self.touches[varies].any(axis=0), np.nan, bias + self.added(values, ~varies))

    def added(self, values, which) -> np.ndarray:
        """What these inputs, all of them constant, add to the outputs."""
        rows = np.flatnonzero(which & (values != 0))
        return values[rows] @ self.matrix[rows]

    def foldable(self, values) -> np.ndarray:
        """Which inputs only add a constant to the outputs."""
        return np.isfinite(values) & ((values == 0) | (not self.borders))


class Producer(rules.Rule):
    """A layer with a kernel, a bias and an activation, each of them or none."""

    def apply(self, node, marks, walk):
        layer, mark = node.operation, marks[0]
        if len(marks) > 1 or mark.axis != self.axis(layer, len(mark.shape), walk) or not _is_plain(layer):
            return rules.FREEZING.apply(node, marks, walk)
        ids = self.connect(layer, mark.ids, walk)
        self.count(node, walk)
        values = self._activated(layer, self.values(layer, mark, ids, walk))
        mark = Mark(node.outputs[0].shape, mark.axis, ids, values)
        if not functions.is_elementwise(layer.activation):
            walk.ties.freeze(ids, f"{layer.activation.__name__} of {layer.name!r} mixes them")
        if functions.is_linear(layer.activation):
            return [mark]
        return [walk.watched(node, mark, functions.gives_zeros(layer.activation))]

    def axis(self, layer, rank, walk):
        """Where the channels lie."""
        return walk.channel_axis(layer, rank)

    @abc.abstractmethod
    def connect(self, layer, ids, walk) -> np.ndarray:
        """The ids of the outputs; tell `walk` which variables carry which."""

    @abc.abstractmethod
    def values(self, layer, mark, ids, walk) -> np.ndarray:
        """Outputs that are constant."""

    def count(self, node, walk):
        """Tell how often the kernel is applied to one example."""
        places = _places(node.outputs[0].shape, node.operation, walk)
        walk.work(_kernels(node.operation), places)

    def _activated(self, layer, values):
        constant = np.isfinite(values)
        if not constant.any() or not functions.is_elementwise(layer.activation):
            return values if constant.any() and layer.activation is None else varying(len(values))
        result = layer.activation(ops.convert_to_tensor(np.where(constant, values, 0)[None].astype("float32")))
        return np.where(constant, ops.convert_to_numpy(result).astype("float64")[0], np.nan)


class Mixing(Producer):
    """Every output is a sum over inputs: new channels."""

    def connect(self, layer, ids, walk):
        made = walk.ties.fresh(self.outputs(layer))
        self.carry(layer, ids, made, walk)
        if layer.use_bias:
            walk.carry(layer, layer.bias, 0, made, "out")
        walk.resize(layer, lambda kept: {self.setting: int(kept(made))})
        return made

    def values(self, layer, mark, ids, walk):
        flow = self.flow(layer)
        walk.use(layer, mark, ids, flow)
        return flow.constants(mark.values, _bias(layer))

    @property
    @abc.abstractmethod
    def setting(self) -> str:
        """The layer's argument that says how many channels it makes."""

    def outputs(self, layer) -> int:
        """How many that is now."""
        return getattr(layer, self.setting)

    @abc.abstractmethod
    def carry(self, layer, ids, made, walk):
        """Tell `walk` what axes of the kernels are these."""

    @abc.abstractmethod
    def flow(self, layer) -> Flow:
        """What becomes of constants."""


class Dense(Mixing):
    """(in, out)"""

    setting = "units"

    def axis(self, layer, rank, walk):
        return -1

    def carry(self, layer, ids, made, walk):
        walk.carry(layer, layer.kernel, 0, ids, "in")
        walk.carry(layer, layer.kernel, 1, made, "out")

    def flow(self, layer):
        kernel = _numpy(layer.kernel)
        return Flow(kernel != 0, kernel, borders=False)


class Convolution(Mixing):
    """(..., in, out)"""

    setting = "filters"

    def carry(self, layer, ids, made, walk):
        rank = len(layer.kernel.shape)
        walk.carry(layer, layer.kernel, rank - 2, ids, "in")
        walk.carry(layer, layer.kernel, rank - 1, made, "out")

    def flow(self, layer):
        kernel = _numpy(layer.kernel)
        places = tuple(range(kernel.ndim - 2))
        return Flow((kernel != 0).any(axis=places), kernel.sum(axis=places), _has_borders(layer))


class Grouped(Convolution):
    """(..., in / groups, out): groups are of one size, so what one of them loses all lose."""

    def connect(self, layer, ids, walk):
        parts = ids.reshape(layer.groups, -1)
        walk.ties.tie(parts, np.tile(parts[0], (layer.groups, 1)))
        made = super().connect(layer, parts[0], walk)
        parts = made.reshape(layer.groups, -1)
        walk.ties.tie(parts, np.tile(parts[0], (layer.groups, 1)))
        return made

    def flow(self, layer):
        part, groups = super().flow(layer), layer.groups
        mine = np.kron(np.eye(groups), np.ones((part.matrix.shape[0], part.matrix.shape[1] // groups)))
        return Flow(
            np.tile(part.touches, (groups, 1)) & (mine > 0), np.tile(part.matrix, (groups, 1)) * mine, part.borders
        )


class Transposed(Mixing):
    """(..., out, in): with strides, places differ in the weights that reach them."""

    setting = "filters"

    def carry(self, layer, ids, made, walk):
        rank = len(layer.kernel.shape)
        walk.carry(layer, layer.kernel, rank - 1, ids, "in")
        walk.carry(layer, layer.kernel, rank - 2, made, "out")

    def flow(self, layer):
        kernel = np.swapaxes(_numpy(layer.kernel), -1, -2)
        places = tuple(range(kernel.ndim - 2))
        return Flow((kernel != 0).any(axis=places), kernel.sum(axis=places), borders=True)

    def count(self, node, walk):
        walk.work(_kernels(node.operation), _places(node.input_tensors[0].shape, node.operation, walk))


class Separable(Mixing):
    """(..., in, multiplier), then (1, 1, in * multiplier, out)"""

    setting = "filters"

    def carry(self, layer, ids, made, walk):
        rank, spread = len(layer.depthwise_kernel.shape), np.repeat(ids, layer.depth_multiplier)
        walk.carry(layer, layer.depthwise_kernel, rank - 2, ids, "in")
        walk.carry(layer, layer.pointwise_kernel, rank - 2, spread, "in")
        walk.carry(layer, layer.pointwise_kernel, rank - 1, made, "out")

    def flow(self, layer):
        deep, points = _numpy(layer.depthwise_kernel), _numpy(layer.pointwise_kernel)
        places, wide = tuple(range(deep.ndim - 2)), points.reshape(*deep.shape[-2:], -1)
        touches = ((deep != 0).any(axis=places)[..., None] & (wide != 0)).any(axis=1)
        return Flow(touches, (deep.sum(axis=places)[..., None] * wide).sum(axis=1), _has_borders(layer))


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
        kernel, times = _numpy(layer.kernel), self.multiplier(layer)
        sums = kernel.sum(axis=tuple(range(kernel.ndim - 2))).ravel()
        alive = (kernel != 0).any(axis=tuple(range(kernel.ndim - 2))).ravel()
        values = np.repeat(mark.values, times)
        constant = np.isfinite(values) & ((values == 0) | (not _has_borders(layer)))
        return np.where(constant | ~alive, np.where(constant, values, 0) * sums + _bias(layer), np.nan)

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
        if not _is_plain(layer):
            return rules.FREEZING.apply(node, marks, walk)
        made = walk.ties.fresh(layer.output_dim)
        walk.carry(layer, layer.embeddings, 1, made, "out")
        walk.resize(layer, lambda kept: {"output_dim": int(kept(made))})
        return [Mark(shape, -1, made, varying(len(made)))]


def _is_plain(layer):
    """Without low-rank additions and integer kernels."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(layer, "lora_enabled", False)


def _kernels(layer):
    return [v for v in layer.trainable_weights + layer.non_trainable_weights if v.name.endswith("kernel")]


def _places(shape, layer, walk):
    inner = [s for axis, s in enumerate(shape) if axis and axis - len(shape) != walk.channel_axis(layer, len(shape))]
    return None if None in inner else int(np.prod(inner))


def _has_borders(layer):
    """Does the layer see zeros beside its input?"""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def _bias(layer):
    return _numpy(layer.bias) if layer.use_bias else 0.0


def _numpy(variable):
    return ops.convert_to_numpy(variable).astype("float32")


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
