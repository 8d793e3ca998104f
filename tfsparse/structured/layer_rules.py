"""What layers with a kernel, a bias and an activation have in common."""

import abc
import dataclasses

import numpy as np
from keras import ops

from tfsparse.structured import elementwise, rules
from tfsparse.structured.channel_info import Mark, varying


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
        return same_everywhere(values, self.borders)


def same_everywhere(values, borders: bool) -> np.ndarray:
    """Which channels give the same at every place: constants, and beside zero padding only zero."""
    return np.isfinite(values) & ((values == 0) | (not borders))


class Producer(rules.Rule):
    """A layer with a kernel, a bias and an activation, each of them or none."""

    def apply(self, node, marks, walk):
        layer, mark = node.operation, walk.along(marks[0], self.axis(node.operation, len(marks[0].shape), walk))
        if len(marks) > 1 or mark is None or not is_plain(layer):
            return rules.FREEZING.apply(node, marks, walk)
        ids = self.connect(layer, mark.ids, walk)
        values = self._activated(layer, self.values(layer, mark, ids, walk))
        mark = Mark(node.outputs[0].shape, mark.axis, ids, values)
        if not elementwise.is_elementwise(layer.activation):
            walk.ties.freeze(ids, f"{layer.activation.__name__} of {layer.name!r} mixes them")
        if elementwise.is_linear(layer.activation):
            return [mark]
        return [walk.watched(node, mark, elementwise.gives_zeros(layer.activation))]

    def axis(self, layer, rank, walk):
        """Where the channels lie."""
        return walk.channel_axis(layer, rank)

    @abc.abstractmethod
    def connect(self, layer, ids, walk) -> np.ndarray:
        """The ids of the outputs; tell `walk` which variables carry which."""

    @abc.abstractmethod
    def values(self, layer, mark, ids, walk) -> np.ndarray:
        """Outputs that are constant."""

    def _activated(self, layer, values):
        constant = np.isfinite(values)
        if not constant.any() or not elementwise.is_elementwise(layer.activation):
            return values if constant.any() and layer.activation is None else varying(len(values))
        result = layer.activation(ops.convert_to_tensor(np.where(constant, values, 0)[None].astype("float32")))
        return np.where(constant, ops.convert_to_numpy(result).astype("float64")[0], np.nan)


class Mixing(Producer):
    """Every output is a sum over inputs: new channels."""

    def connect(self, layer, ids, walk):
        made = walk.ties.fresh(getattr(layer, self.setting))
        self.carry(layer, ids, made, walk)
        if layer.use_bias:
            walk.carry(layer, layer.bias, 0, made, "out")
        walk.resize(layer, lambda kept: {self.setting: int(kept(made))})
        return made

    def values(self, layer, mark, ids, walk):
        flow = self.flow(layer)
        walk.use(layer, mark, ids, flow)
        return flow.constants(mark.values, bias(layer))

    @property
    @abc.abstractmethod
    def setting(self) -> str:
        """The layer's argument that says how many channels it makes."""

    @abc.abstractmethod
    def carry(self, layer, ids, made, walk):
        """Tell `walk` what axes of the kernels are these."""

    @abc.abstractmethod
    def flow(self, layer) -> Flow:
        """What becomes of constants."""


def is_plain(layer) -> bool:
    """Without low-rank additions and integer kernels."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(layer, "lora_enabled", False)


def has_borders(layer) -> bool:
    """Does the layer see zeros beside its input?"""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def bias(layer) -> np.ndarray | float:
    """The layer's bias, or zero."""
    return numpy(layer.bias) if layer.use_bias else 0.0


def numpy(variable) -> np.ndarray:
    """A variable's value."""
    return ops.convert_to_numpy(variable).astype("float32")
