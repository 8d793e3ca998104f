"""Walks the graph of a model and writes down which variable carries which channels."""

import dataclasses

import keras
import numpy as np

from tfsparse.structured import axis_rules, kernel_rules, rules  # noqa: F401  the first two register theirs
from tfsparse.structured.channel_info import Mark, varying
from tfsparse.structured.layer_rules import Flow
from tfsparse.structured.union_find import Ties


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """One axis of a variable and the ids along it; `role`: "out" makes these channels, "in" reads them, "through" does
    something to each of them."""

    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    ids: np.ndarray
    role: str


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """The output of a nonlinearity: ids along one axis (counted from the right); `sparse`: negative numbers become
    exactly zero."""

    tensor: keras.KerasTensor
    ids: np.ndarray
    axis: int
    sparse: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """One call of a layer that sums over these channels."""

    layer: keras.layers.Layer
    ids: np.ndarray
    values: np.ndarray
    outputs: np.ndarray
    flow: Flow


class Walk:
    """One walk over a model's graph; afterwards what it has found, by the weights as they are now.

    Args:
        model: Functional or Sequential, built.
    """

    def __init__(self, model: keras.Model):
        self.ties = Ties()
        self.slices: dict[tuple[int, int], Slice] = {}
        self.configs: dict[int, list] = {}
        self.uses: list[Use] = []
        self.activations: list[Activation] = []
        self.inputs: dict[int, list[Mark]] = {}
        self._depth = 0
        inputs = [self.frozen(t.shape, "it is an input of the model") for t in functional(model).inputs]
        self.inputs[id(model)] = inputs
        for mark in self._through(model, inputs):
            self.ties.freeze(mark.ids, "it is an output of the model")

    # ---- for the rules ----------------------------------------------------------------------------------------------

    def carry(self, layer, variable, axis: int, ids, role: str) -> None:
        """An axis of a variable carries these channels; a variable that is used twice ties both."""
        known = self.slices.setdefault((id(variable), axis), Slice(layer, variable, axis, ids, role))
        self.ties.tie(known.ids, ids)

    def resize(self, operation, config) -> None:
        """`config(kept)` is what changes in the operation's arguments, where `kept(ids)` counts."""
        self.configs.setdefault(id(operation), []).append(config)

    def use(self, layer, mark, outputs, flow) -> None:
        """A layer sums over the channels of this mark."""
        self.uses.append(Use(layer, mark.ids, mark.values, outputs, flow))

    def watched(self, node, mark: Mark, sparse: bool) -> Mark:
        """The output of a nonlinearity, remembered; inside of models it cannot be looked at from outside."""
        if self._depth == 1:
            self.activations.append(Activation(node.outputs[0], mark.ids, mark.axis, sparse))
        return mark

    def frozen(self, shape, reason: str) -> Mark:
        """Channels along the last axis that stay; none for a shape without one."""
        count = (shape[-1] or 0) if len(shape) > 1 else 0
        return Mark(shape, -1, self.ties.fresh(count, reason), varying(count))

    def along(self, mark: Mark, axis: int) -> Mark | None:
        """The same tensor read along another axis than its channels': those stay then, and so does what is read."""
        if mark.axis == axis:
            return mark
        if mark.shape[axis] is None:
            return None
        self.ties.freeze(mark.ids, "they are read along another axis")
        count = mark.shape[axis]
        return Mark(mark.shape, axis, self.ties.fresh(count, "they are read along another axis"), varying(count))

    def channel_axis(self, layer, rank: int) -> int:
        """Where a layer expects the channels, counted from the right."""
        return 1 - rank if getattr(layer, "data_format", None) == "channels_first" else -1

    # ---- the walk ---------------------------------------------------------------------------------------------------

    def _through(self, model, inputs):
        graph = functional(model)
        marks = {id(t): mark for t, mark in zip(graph.inputs, inputs, strict=True)}
        self._depth += 1
        for node in nodes(graph):
            found = self._applied(node, [marks[id(t)] for t in node.input_tensors])
            marks.update(zip(map(id, node.outputs), found, strict=True))
        self._depth -= 1
        return [marks[id(t)] for t in graph.outputs]

    def _applied(self, node, marks):
        if not is_graph(node.operation):
            return rules.of(node.operation).apply(node, marks, self)
        known = self.inputs.setdefault(id(node.operation), marks)
        for first, mark in zip(known, marks, strict=True):
            self.ties.tie(first.ids, mark.ids)  # its inputs have one width, however often it is called
        return self._through(node.operation, marks)


def nodes(graph) -> list:
    """All calls of layers and operations, each behind those it needs."""
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def is_graph(item) -> bool:
    """Is this a Functional or Sequential model?"""
    return isinstance(item, keras.Sequential) or hasattr(item, "_nodes_by_depth")


def functional(model):
    """The graph of a model, that inside a Sequential one too.

    Raises: ValueError if it has none.
    """
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if isinstance(model, keras.Model) and hasattr(graph, "_nodes_by_depth"):
        return graph
    what = "is not built yet" if isinstance(model, keras.Sequential) else "is not a graph of layers"
    raise ValueError(
        f"Model {getattr(model, 'name', model)!r} {what}, so the channels that belong together cannot be found. "
        "Expected a Functional or Sequential model with known input shape: keras.Sequential([keras.Input(shape), ...]) "
        "or keras.Model(inputs, outputs)."
    )
