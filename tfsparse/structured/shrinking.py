"""Smaller models: channels are dropped, and shapes with them."""

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend.layer_copies import copy_layer, copy_or_share
from tfsparse.structured import constant_channels, optimizer_slots
from tfsparse.structured.channel_tracer import functional, is_graph
from tfsparse.structured.channels import Channels


def shrink(model: keras.Model, keep=None, multiple: int = 1) -> keras.Model:
    """Return a smaller model of the same class, with the names, weights and optimizer slots of what is kept.

        variable' = variable[kept channels along every axis]
        bias' = bias + what the dropped channels always add

    Without `keep`, those channels are dropped that the weights prove to have no effect: no layer reads them, or they
    are constant, and what they add goes into the biases of the layers that read them. In inference mode no output
    changes.

    A channel whose filter is zero is not always zero: BatchNormalization turns it into the constant
    act(beta - gamma * mean / std). If the next layer pads with zeros, this constant cannot move into its bias, because
    at the borders it adds something else. Then the channel stays, unless gamma and beta are zero as well;
    `mask_channels` makes them zero. With `keep`, all other channels are dropped, whatever effect they have; if the
    model has BatchNormalization, `tfsparse.recalibrate(small, data)` then measures its statistics again.

    If the model is compiled, so is the new one, and the slots of its innermost optimizer are reduced like the weights.

    Args:
        model: A built Functional or Sequential model.
        keep: `{layer or name of a group: number, indices or booleans}` as in `Channels.keep`, or the array that
            `Channels.keep` returns. Default: None, drop the channels without effect.
        multiple: Round numbers of channels up to a multiple of this. Default: 1.

    Returns:
        A new model. The given one is not changed.

    Raises:
        ValueError: If the model is not a graph of layers, or if `keep` does not fit it.

    Source:
        Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023): dependency groups.

    Examples:
        >>> tfsparse.mask_channels(model, keep={"conv1": 24}); small = tfsparse.shrink(model)
    """
    channels = Channels(model)
    kept = constant_channels.needed(channels, multiple) if keep is None else _kept(channels, keep, multiple)
    with replicas.strategy_scope(model):
        shrinker = _Shrinker(channels, kept)
        small = shrinker.rebuild(model)
        shrinker.copy_weights()
        optimizer_slots.compile_like(small, model, shrinker.sources, shrinker.take_kept)
    return small


def mask_channels(model: keras.Model, keep) -> None:
    """Set channels to zero in place, so that they are constantly zero and `shrink` drops them without any change.

        kernel[..., dropped] = bias[dropped] = gamma[dropped] = beta[dropped] = 0
        moving_mean[dropped] = 0                                        where BatchNormalization has no gamma

    Further training changes them again.

    Args:
        model: A built Functional or Sequential model.
        keep: `{layer or name of a group: number, indices or booleans}` as in `Channels.keep`, or the array that
            `Channels.keep` returns. All other channels of these groups become zero.

    Examples:
        >>> tfsparse.mask_channels(model, keep={"conv1": 24})
    """
    channels = Channels(model)
    kept = _kept(channels, keep)
    for axis in channels.axes:
        if axis.role != "in" and not _is_statistic(axis):
            shape = [1] * len(axis.variable.shape)
            shape[axis.axis] = len(axis.ids)
            value = ops.convert_to_numpy(axis.variable)
            axis.variable.assign(np.where(kept[axis.ids].reshape(shape), value, 0))


def _is_statistic(axis):
    """Return whether the channel is zero without this variable being zero."""
    name = axis.variable.name
    return name == "moving_variance" or (name == "moving_mean" and axis.layer.scale)


def _kept(channels, kept, multiple=1):
    """Return a `kept` array, given one or what `Channels.keep` accepts."""
    if not isinstance(kept, np.ndarray):
        return channels.keep(kept, multiple=multiple)
    if kept.shape != (channels.size,) or kept.dtype != bool:
        raise ValueError(
            f"keep is an array of shape {kept.shape} and type {kept.dtype}; expected the {channels.size} booleans that "
            "tfsparse.Channels(model).keep({...}) returns."
        )
    for axis in channels.axes:
        if axis.role == "out" and not kept[axis.ids].any():
            name = axis.layer.name
            raise ValueError(f"keep leaves no channel of {name!r}: keep={{{name!r}: 1}} keeps one.")
    frozen = next((g for g in channels.groups if g.frozen and not kept[g.channels].all()), None)
    if frozen:
        raise ValueError(f"The width of {frozen.name!r} cannot change: {frozen.frozen}.")
    return kept[channels.roots]


class _Shrinker:
    """Rebuild a model's graph with fewer channels, then copy what is kept of its weights.

    Attributes:
        sources: `{id of a new variable: the old one, or None}`, after `copy_weights`.
    """

    def __init__(self, channels, kept):
        self._channels, self._kept = channels, kept
        self._folded = constant_channels.folded(channels, kept)
        self._new = {}
        self._layers = []
        self.sources = {}

    def rebuild(self, model):
        """Return the model with the same layers, smaller and with fresh weights."""
        infos = self._channels.model_inputs[id(model)]
        inputs = [self._input(t, info) for t, info in zip(functional(model).inputs, infos, strict=True)]
        if isinstance(model, keras.Sequential):
            return type(model)([*inputs, *map(self._operation, model.layers)], name=model.name)
        tensors = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        for node in keras_internals.nodes(model):
            args, kwargs = node.arguments.fill_in(tensors)
            outputs = self._operation(node.operation)(*args, **kwargs)
            tensors.update(zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True))
        structures = (keras.tree.map_structure(lambda t: tensors[id(t)], s) for s in (model.input, model.output))
        return type(model)(*structures, name=model.name)

    def copy_weights(self):
        """Assign what is kept of all variables: weights, statistics, states of random generators."""
        for old, new in self._layers:
            for source, variable in _pairs(old, new):
                variable.assign(self._value(old, source))
                self.sources[id(variable)] = source

    def take_kept(self, variable, value):
        """Return an array of a variable's shape without the dropped channels."""
        for axis, ids in self._channels.ids(variable).items():
            value = np.take(value, np.flatnonzero(self._kept[ids]), axis)
        return value

    def _value(self, layer, source):
        if source is None:
            return self._new_bias(layer)
        value = ops.convert_to_numpy(source)
        if source.name == "bias":
            value = value + self._folded.get(id(layer), 0)
        return self.take_kept(source, value)

    def _input(self, tensor, info):
        shape = list(tensor.shape)
        if len(info.ids):
            shape[info.axis] = self._num_kept(info.ids)
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=keras_internals.operation_of(tensor).name)

    def _operation(self, old):
        if id(old) not in self._new:
            self._new[id(old)] = self.rebuild(old) if is_graph(old) else self._smaller(old)
        return self._new[id(old)]

    def _smaller(self, old):
        changes = {}
        for change in self._channels.config_changes.get(id(old), []):
            changes |= change(self._num_kept)
        if not getattr(old, "use_bias", True) and self._new_bias(old).any():
            changes["use_bias"] = True
        changes = {key: value for key, value in changes.items() if getattr(old, key, None) != value}
        new = copy_layer(old, **changes) if changes else copy_or_share(old)
        if isinstance(old, keras.layers.Layer):
            self._layers.append((old, new))
        return new

    def _new_bias(self, layer):
        """Return what the dropped inputs of a layer always add to the outputs that are kept."""
        outputs = next((call.outputs for call in self._channels.linear_calls if call.layer is layer), None)
        return np.zeros(0) if outputs is None else self._folded[id(layer)][self._kept[outputs]]

    def _num_kept(self, ids):
        return int(np.count_nonzero(self._kept[ids]))


def _pairs(old, new):
    """Return each variable of the new layer with its source; None for a bias that the old layer does not have."""
    if len(old.variables) == len(new.variables):
        return [*zip(old.variables, new.variables, strict=True)]
    by_name = {v.name: v for v in old.variables}
    return [(by_name.get(v.name), v) for v in new.variables]
