"""Traces channels through the graph of a model and records which variables belong to which channels."""

import dataclasses

import keras
import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.structured import axis_rules, kernel_rules, rules  # noqa: F401  the first two register their rules
from tfsparse.structured.channel_info import ChannelInfo, not_constant
from tfsparse.structured.layer_rules import LinearMap
from tfsparse.structured.union_find import UnionFind

IS_OUTPUT = "it is an output of the model"


@dataclasses.dataclass(frozen=True, eq=False)
class VariableAxis:
    """One axis of a variable, with a channel id for each index along it.

    `role`: "out" if the variable produces these channels, "in" if it reads them, "per_channel" if it acts on each
    channel alone, as BatchNormalization does.
    """

    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    ids: np.ndarray
    role: str


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """The output of a nonlinearity.

    `axis`, counted from the right, has the channels `ids`. `sparse`: negative inputs become exactly zero.
    """

    tensor: keras.KerasTensor
    ids: np.ndarray
    axis: int
    sparse: bool


@dataclasses.dataclass(frozen=True, eq=False)
class LinearCall:
    """One call of a layer whose outputs are sums over the channels `ids`, which have the constant `values`."""

    layer: keras.layers.Layer
    ids: np.ndarray
    values: np.ndarray
    outputs: np.ndarray
    linear_map: LinearMap


class ChannelTracer:
    """Follows the channels through all calls of a model's graph, with the weights as they are now.

    Args:
        model: A built Functional or Sequential model.
    """

    def __init__(self, model: keras.Model):
        self.sets = UnionFind()
        self.axes: dict[tuple[int, int], VariableAxis] = {}
        self.config_changes: dict[int, list] = {}
        self.linear_calls: list[LinearCall] = []
        self.activations: list[Activation] = []
        self.model_inputs: dict[int, list[ChannelInfo]] = {}
        self._depth = 0
        inputs = [self.frozen_channels(t.shape, "it is an input of the model") for t in functional(model).inputs]
        self.model_inputs[id(model)] = inputs
        for output in self._trace(model, inputs):
            self.sets.freeze(output.ids, IS_OUTPUT)

    # ---- for the rules ----------------------------------------------------------------------------------------------

    def assign(self, layer, variable, axis: int, ids, role: str) -> None:
        """Record that an axis of a variable has these channels; a variable that is used twice couples both."""
        known = self.axes.setdefault((id(variable), axis), VariableAxis(layer, variable, axis, ids, role))
        self.sets.union(known.ids, ids)

    def resize(self, operation, config) -> None:
        """Record that `config(num_kept)` changes the operation's arguments, where `num_kept(ids)` counts channels."""
        self.config_changes.setdefault(id(operation), []).append(config)

    def record_linear_call(self, layer, info, outputs, linear_map) -> None:
        """Record that a layer sums over the channels of `info`."""
        self.linear_calls.append(LinearCall(layer, info.ids, info.values, outputs, linear_map))

    def record_activation(self, node, info: ChannelInfo, sparse: bool) -> ChannelInfo:
        """Record the output of a nonlinearity; tensors of models inside the model cannot be measured from outside."""
        if self._depth == 1:
            self.activations.append(Activation(node.outputs[0], info.ids, info.axis, sparse))
        return info

    def frozen_channels(self, shape, reason: str) -> ChannelInfo:
        """Return frozen channels along the last axis; none for a shape without a channel axis."""
        count = (shape[-1] or 0) if len(shape) > 1 else 0
        return ChannelInfo(shape, -1, self.sets.make_sets(count, reason), not_constant(count))

    def along_axis(self, info: ChannelInfo, axis: int) -> ChannelInfo | None:
        """Return what is known along an axis; if it is not the channel axis, both axes are frozen. None if unknown."""
        if info.axis == axis:
            return info
        if info.shape[axis] is None:
            return None
        reason, count = "they are read along another axis", info.shape[axis]
        self.sets.freeze(info.ids, reason)
        return ChannelInfo(info.shape, axis, self.sets.make_sets(count, reason), not_constant(count))

    def channel_axis(self, layer, rank: int) -> int:
        """Return the axis on which a layer expects the channels, counted from the right."""
        return 1 - rank if getattr(layer, "data_format", None) == "channels_first" else -1

    # ---- the graph --------------------------------------------------------------------------------------------------

    def _trace(self, model, inputs):
        graph = functional(model)
        infos = {id(t): info for t, info in zip(graph.inputs, inputs, strict=True)}
        self._depth += 1
        for node in keras_internals.nodes(graph):
            outputs = self._apply_rule(node, [infos[id(t)] for t in node.input_tensors])
            infos.update(zip(map(id, node.outputs), outputs, strict=True))
        self._depth -= 1
        return [infos[id(t)] for t in graph.outputs]

    def _apply_rule(self, node, inputs):
        if not is_graph(node.operation):
            return rules.for_operation(node.operation).apply(node, inputs, self)
        first_call = self.model_inputs.setdefault(id(node.operation), inputs)
        for first, info in zip(first_call, inputs, strict=True):
            self.sets.union(first.ids, info.ids)  # its inputs have one width, however often it is called
        return self._trace(node.operation, inputs)


def is_graph(operation) -> bool:
    """Return whether this is a Functional or Sequential model."""
    return isinstance(operation, keras.Sequential) or keras_internals.graph(operation) is not None


def functional(model):
    """Return the graph of a Functional or Sequential model.

    Raises:
        ValueError: If the model has no graph.
    """
    graph = keras_internals.graph(model) if isinstance(model, keras.Model) else None
    if graph is not None:
        return graph
    problem = "is not built yet" if isinstance(model, keras.Sequential) else "is not a graph of layers"
    raise ValueError(
        f"Model {getattr(model, 'name', model)!r} {problem}, so its coupled channels cannot be found. "
        "Expected a Functional or Sequential model with known input shape: keras.Sequential([keras.Input(shape), ...]) "
        "or keras.Model(inputs, outputs)."
    )
