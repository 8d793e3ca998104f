"""A smaller model out of a model with channels to drop."""

import keras
import numpy as np
from keras import ops

from tfsparse.backend import replicas
from tfsparse.structured import constant_channels, optimizer_slots
from tfsparse.structured.channel_tracer import functional, is_graph, nodes
from tfsparse.structured.channels import Channels


def shrink(model: keras.Model, keep=None, multiple: int = 1) -> keras.Model:
    """A new, plain, smaller model of the same class, with the names, weights and optimizer slots of what is left.

        variable' = variable[living channels along every axis]
        bias' = bias + what the dropped channels have always added

    Without `keep` those channels are dropped which the weights prove to be without effect: nobody reads them, or they
    are constant and what they add goes into their readers' biases. That changes no output (in inference mode). A
    channel whose filter is zero still emits act(beta - gamma * mean / std) after BatchNormalization, and where its
    reader pads with zeros this differs at the borders: then it stays, unless gamma and beta are zero as well, as
    `mask_channels` makes them. With `keep` what is said is dropped, whatever that does.

    A compiled model comes back compiled alike, with the slots of its (innermost) optimizer cut in the same way.

    Args:
        model: Functional or Sequential, built.
        keep: None; or `{layer or group's name: number, indices or booleans}`, see `Channels.keep`; or an `alive` array.
        multiple: round numbers of channels up to a multiple of this.

    Raises: ValueError for a model that is not a graph of layers, and for what cannot be kept.

    Source: dependency groups after Fang et al., "DepGraph" (CVPR 2023); the surgery is exact by construction.

    >>> tfsparse.mask_channels(model, keep={"conv1": 24}); small = tfsparse.shrink(model)
    """
    graph = Channels(model)
    if keep is None:
        alive = constant_channels.needed(graph, multiple)
    elif isinstance(keep, np.ndarray):
        alive = _checked(graph, keep)
    else:
        alive = graph.keep(keep, multiple=multiple)
    with replicas.strategy_scope(model):
        surgery = _Surgery(graph, alive)
        small = surgery.rebuilt(model)
        surgery.fill()
        optimizer_slots.compile_like(small, model, surgery.origins, surgery.cut)
    return small


def mask_channels(model: keras.Model, keep) -> None:
    """Zero channels in place, so that they are constantly zero and `shrink` can drop them without a change.

        kernel[..., dropped] = bias[dropped] = gamma[dropped] = beta[dropped] = 0
        moving_mean[dropped] = 0                                        where BatchNormalization has no gamma

    Args: as for `shrink`. Nothing keeps them at zero if training goes on.

    >>> tfsparse.mask_channels(model, keep={"conv1": 24})
    """
    graph = Channels(model)
    alive = _checked(graph, keep) if isinstance(keep, np.ndarray) else graph.keep(keep)
    for s in graph.slices:
        if s.role != "in" and not _is_statistic(s):
            shape = [1] * len(s.variable.shape)
            shape[s.axis] = len(s.ids)
            value = ops.convert_to_numpy(s.variable)
            s.variable.assign(np.where(alive[s.ids].reshape(shape), value, 0))


def _is_statistic(piece):
    """Does zeroing other variables do, so that this one can stay?"""
    name = piece.variable.name
    return name == "moving_variance" or (name == "moving_mean" and piece.layer.scale)


def _checked(graph, alive):
    if alive.shape != (graph.size,) or alive.dtype != bool:
        raise ValueError(
            f"keep is an array of shape {alive.shape} and type {alive.dtype}; expected the {graph.size} booleans that "
            "tfsparse.Channels(model).keep({...}) returns."
        )
    for s in graph.slices:
        if s.role == "out" and not alive[s.ids].any():
            raise ValueError(f"keep leaves no channel of {s.layer.name!r}: keep={{{s.layer.name!r}: 1}} keeps one.")
    frozen = next((g for g in graph.groups if g.frozen and not alive[g.channels].all()), None)
    if frozen:
        raise ValueError(f"The width of {frozen.name!r} cannot change: {frozen.frozen}.")
    return alive[graph.roots]


class _Surgery:
    """Rebuilds a model's graph with fewer channels, then fills in what is left of its weights."""

    def __init__(self, graph, alive):
        self._graph, self._alive = graph, alive
        self._added = constant_channels.folded(graph, alive)
        self._new = {}
        self._old = []
        self.origins = {}

    def rebuilt(self, model):
        """The model with the same layers, smaller."""
        inputs = [
            self._input(t, m) for t, m in zip(functional(model).inputs, self._graph.marks[id(model)], strict=True)
        ]
        if isinstance(model, keras.Sequential):
            return type(model)([*inputs, *map(self._operation, model.layers)], name=model.name)
        tensors = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        for node in nodes(model):
            args, kwargs = node.arguments.fill_in(tensors)
            made = self._operation(node.operation)(*args, **kwargs)
            tensors.update(zip(map(id, node.outputs), keras.tree.flatten(made), strict=True))
        structures = (keras.tree.map_structure(lambda t: tensors[id(t)], s) for s in (model.input, model.output))
        return type(model)(*structures, name=model.name)

    def fill(self):
        """Weights, statistics and whatever else layers hold."""
        for old, new in self._old:
            for source, variable in _pairs(old, new):
                variable.assign(self._value(old, source))
                self.origins[id(variable)] = source

    def cut(self, variable, value):
        """Something of a variable's shape, without what is dropped."""
        for axis, ids in self._graph.ids(variable).items():
            value = np.take(value, np.flatnonzero(self._alive[ids]), axis)
        return value

    def _value(self, layer, source):
        """What is left of an old variable, or the bias that there was none."""
        if source is None:
            return self._new_bias(layer)
        value = ops.convert_to_numpy(source)
        if source.name == "bias" and id(layer) in self._added:
            value = value + self._added[id(layer)]
        return self.cut(source, value)

    def _input(self, tensor, mark):
        shape = list(tensor.shape)
        if len(mark.ids):
            shape[mark.axis] = self._count(mark.ids)
        name = tensor._keras_history.operation.name
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=name)

    def _operation(self, old):
        if id(old) not in self._new:
            self._new[id(old)] = self.rebuilt(old) if is_graph(old) else self._smaller(old)
        return self._new[id(old)]

    def _smaller(self, old):
        config = old.get_config()
        for change in self._graph.configs.get(id(old), []):
            config |= change(self._count)
        if not config.get("use_bias", True) and self._new_bias(old).any():
            config["use_bias"] = True
        new = type(old).from_config(config)
        if isinstance(old, keras.layers.Layer):
            self._old.append((old, new))
        return new

    def _new_bias(self, layer):
        """What the dropped inputs of a layer have always added to the outputs that are left."""
        outputs = [u.outputs for u in self._graph.uses if u.layer is layer]
        return self._added[id(layer)][self._alive[outputs[0]]] if outputs else np.zeros(0)

    def _count(self, ids):
        return int(np.count_nonzero(self._alive[ids]))


def _pairs(old, new):
    """Each variable of the new layer with the one it comes from; None for a bias that the old one does not have."""
    if len(old.variables) == len(new.variables):
        return list(zip(old.variables, new.variables, strict=True))
    named = {v.name: v for v in old.variables}
    return [(named.get(v.name), v) for v in new.variables]
