"""Operations after which channels lie elsewhere: strung together, padded, reshaped."""

import keras
import numpy as np
from keras import layers, ops

from tfsparse.structured import elementwise, rules
from tfsparse.structured.channel_info import Mark


class Joining(rules.Rule):
    """Concatenation: one after the other along the channels, tied along other axes."""

    def apply(self, node, marks, walk):
        rank, axes = len(node.outputs[0].shape), {m.axis for m in marks}
        along = node.operation.axis % rank - rank
        if len(axes) != 1 or any(m.shape[m.axis] != len(m.ids) for m in marks):
            return rules.FREEZING.apply(node, marks, walk)
        return [self._joined(node, marks) if along in axes else self._tied(node, marks, walk)]

    def _joined(self, node, marks):
        ids, values = (np.concatenate([getattr(m, what) for m in marks]) for what in ("ids", "values"))
        return Mark(node.outputs[0].shape, marks[0].axis, ids, values)

    def _tied(self, node, marks, walk):
        first, values = marks[0], marks[0].values
        for mark in marks[1:]:
            walk.ties.tie(first.ids, mark.ids)
            values = np.where(values == mark.values, values, np.nan)
        return Mark(node.outputs[0].shape, first.axis, first.ids, values)


class Reshaping(rules.Rule):
    """Other axes: followed entry by entry, so that it does not matter which way channels are spread."""

    def apply(self, node, marks, walk):
        mark, shape = marks[0], node.outputs[0].shape
        if None in (*mark.shape[1:], *shape[1:]) or mark.shape[mark.axis] != len(mark.ids):
            return rules.FREEZING.apply(node, marks, walk)
        places = self._moved(node, mark.over_shape(np.arange(len(mark.ids))))
        axis = next((a for a in range(-1, -len(shape), -1) if _varies_only_along(places, a)), None)
        if axis is None:
            return rules.FREEZING.apply(node, marks, walk)
        order = np.moveaxis(places, axis, -1).reshape(-1, shape[axis])[0]
        self._resize(node, mark.ids[order], axis, walk)
        return [Mark(shape, axis, mark.ids[order], mark.values[order])]

    def _moved(self, node, places):
        return ops.convert_to_numpy(node.operation(ops.convert_to_tensor(places[None])))[0]

    def _resize(self, node, ids, axis, walk):
        """Nothing in the layer tells its size."""


class ToShape(Reshaping):
    """The Reshape layer names the size."""

    def _resize(self, node, ids, axis, walk):
        layer, target = node.operation, list(node.operation.target_shape)
        before, after = target[:axis], target[axis:][1:]
        walk.resize(layer, lambda kept: {"target_shape": (*before, int(kept(ids)), *after)})


class ChannelPadding(rules.Rule):
    """`keras.ops.pad` with zeros, along the channels too: the shortcut without parameters."""

    def apply(self, node, marks, walk):
        operation, mark, shape = node.operation, marks[0], node.outputs[0].shape
        given = [x for x in keras.tree.flatten(list(node.arguments.args[1:])) if np.any(x)]
        if operation.mode != "constant" or given or any(node.arguments.kwargs.values()):
            return rules.FREEZING.apply(node, marks, walk)
        widths = [list(pair) for pair in operation.pad_width]
        left, right = widths[: mark.axis], widths[mark.axis :][1:]
        before, after = (walk.ties.fresh(n) for n in widths[mark.axis])

        def config(kept):
            return {"pad_width": [*left, [int(kept(before)), int(kept(after))], *right], "mode": "constant"}

        walk.resize(operation, config)
        inside = rules.PADDING.constants(mark) if np.any(left + right) else mark.values
        ids, values = (before, mark.ids, after), (np.zeros(len(before)), inside, np.zeros(len(after)))
        return [Mark(shape, mark.axis, np.concatenate(ids), np.concatenate(values))]


def _varies_only_along(places, axis):
    """Is the array the same wherever one looks along all other axes, and larger than one along this?"""
    moved = np.moveaxis(places, axis, -1).reshape(-1, places.shape[axis])
    return (moved == moved[0]).all() and (len(set(moved[0].tolist())) > 1 or places.size == places.shape[axis])


for _rule, _kinds in {
    Joining(): (layers.Concatenate, *elementwise.operations([lambda x: ops.concatenate([x, x])])),
    Reshaping(): (layers.Flatten, layers.Permute),
    ToShape(): (layers.Reshape,),
    ChannelPadding(): elementwise.operations([lambda x: ops.pad(x, [[0, 0], [1, 1]])]),
}.items():
    for _kind in _kinds:
        rules.register(_kind, _rule)
