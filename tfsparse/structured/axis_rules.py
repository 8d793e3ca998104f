"""Operations that move the channel axis or change its length: concatenate, pad, reshape."""

import keras
import numpy as np
from keras import layers, ops

from tfsparse.structured import elementwise, rules
from tfsparse.structured.channel_info import ChannelInfo


class Concatenate(rules.Rule):
    """Along the channel axis the channels follow one another; along any other axis they are coupled."""

    def apply(self, node, inputs, tracer):
        shape, axes = node.outputs[0].shape, {info.axis for info in inputs}
        axis = node.operation.axis % len(shape) - len(shape)
        if len(axes) != 1 or any(info.shape[info.axis] != len(info.ids) for info in inputs):
            return rules.UNKNOWN.apply(node, inputs, tracer)
        if axis in axes:
            ids, values = (np.concatenate([getattr(info, name) for info in inputs]) for name in ("ids", "values"))
            return [ChannelInfo(shape, axis, ids, values)]
        first, values = inputs[0], inputs[0].values
        for info in inputs[1:]:
            tracer.sets.union(first.ids, info.ids)
            values = np.where(values == info.values, values, np.nan)
        return [ChannelInfo(shape, first.axis, first.ids, values)]


class Rearrange(rules.Rule):
    """Other axes: every entry is followed to its new position, so any order of the channels is found."""

    def apply(self, node, inputs, tracer):
        info, shape = inputs[0], node.outputs[0].shape
        if None in (*info.shape[1:], *shape[1:]) or info.shape[info.axis] != len(info.ids):
            return rules.UNKNOWN.apply(node, inputs, tracer)
        before = info.at_every_position(np.arange(len(info.ids)))
        after = ops.convert_to_numpy(node.operation(ops.convert_to_tensor(before[None])))[0]
        axis = next((a for a in range(-1, -len(shape), -1) if _varies_only_along(after, a)), None)
        if axis is None:
            return rules.UNKNOWN.apply(node, inputs, tracer)
        order = np.moveaxis(after, axis, -1).reshape(-1, shape[axis])[0]
        self._resize(node.operation, info.ids[order], axis, tracer)
        return [ChannelInfo(shape, axis, info.ids[order], info.values[order])]

    def _resize(self, layer, ids, axis, tracer):
        """Flatten and Permute have no argument that depends on the number of channels."""


class Reshape(Rearrange):
    """The Reshape layer has the size as an argument."""

    def _resize(self, layer, ids, axis, tracer):
        target = list(layer.target_shape)
        before, after = target[:axis], target[axis:][1:]
        tracer.resize(layer, lambda num_kept: {"target_shape": (*before, num_kept(ids), *after)})


class Pad(rules.Rule):
    """`keras.ops.pad` with zeros, also along the channel axis: the shortcut of ResNets without parameters."""

    def apply(self, node, inputs, tracer):
        operation, info = node.operation, inputs[0]
        other_arguments = [x for x in keras.tree.flatten(list(node.arguments.args[1:])) if np.any(x)]
        if operation.mode != "constant" or other_arguments or any(node.arguments.kwargs.values()):
            return rules.UNKNOWN.apply(node, inputs, tracer)
        widths = [list(pair) for pair in operation.pad_width]
        left, right = widths[: info.axis], widths[info.axis :][1:]
        before, after = (tracer.sets.make_sets(n) for n in widths[info.axis])

        def config(num_kept):
            return {"pad_width": [*left, [num_kept(before), num_kept(after)], *right], "mode": "constant"}

        tracer.resize(operation, config)
        values = rules.ZERO_PADDING.constant_values(info) if np.any(left + right) else info.values
        ids, values = (before, info.ids, after), (np.zeros(len(before)), values, np.zeros(len(after)))
        return [ChannelInfo(node.outputs[0].shape, info.axis, np.concatenate(ids), np.concatenate(values))]


def _varies_only_along(array, axis):
    """Return whether this axis is longer than 1 and the array is the same at all indices of the other axes."""
    rows = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
    return (rows == rows[0]).all() and (len(set(rows[0].tolist())) > 1 or array.size == array.shape[axis])


for _rule, _kinds in {
    Concatenate(): (layers.Concatenate, *elementwise.operations([lambda x: ops.concatenate([x, x])])),
    Rearrange(): (layers.Flatten, layers.Permute),
    Reshape(): (layers.Reshape,),
    Pad(): elementwise.operations([lambda x: ops.pad(x, [[0, 0], [1, 1]])]),
}.items():
    for _kind in _kinds:
        rules.register(_kind, _rule)
