"""How each kind of operation treats channels; what has no rule here freezes what it is given."""

import abc

import keras
import numpy as np
from keras import layers, ops

from tfsparse.structured import elementwise
from tfsparse.structured.channel_info import Mark, varying


class Rule(abc.ABC):
    """One kind of operation."""

    @abc.abstractmethod
    def apply(self, node, marks: list[Mark], walk) -> list[Mark]:
        """The marks of a node's outputs from those of its inputs; tells `walk` what variables carry which channels."""


class Freezing(Rule):
    """Not understood: all that goes in and comes out stays."""

    def apply(self, node, marks, walk):
        reason = f"{type(node.operation).__name__} {node.operation.name!r} is not understood"
        for mark in marks:
            walk.ties.freeze(mark.ids, f"{reason} and reads them")
        return [walk.frozen(t.shape, f"{reason} and makes them") for t in node.outputs]


class Passing(Rule):
    """Every channel goes on as it is: dropout in inference mode."""

    def apply(self, node, marks, walk):
        return [Mark(node.outputs[0].shape, marks[0].axis, marks[0].ids, self.constants(marks[0]))]

    def constants(self, mark) -> np.ndarray:
        """What becomes of the values."""
        return mark.values


class Placing(Passing):
    """Does something to places and nothing to channels, so that constants remain: pooling, cropping, upsampling."""

    def apply(self, node, marks, walk):
        right = marks[0].axis == walk.channel_axis(node.operation, len(marks[0].shape))
        return (super() if right else FREEZING).apply(node, marks, walk)


class Padding(Placing):
    """Zeros around: of constants only zero stays one."""

    def constants(self, mark):
        return np.where(mark.values == 0, 0, np.nan)


class Pooling(Rule):
    """Over all places: the channels become the last axis, or keep theirs."""

    def apply(self, node, marks, walk):
        layer, mark, shape = node.operation, marks[0], node.outputs[0].shape
        if mark.axis != walk.channel_axis(layer, len(mark.shape)):
            return FREEZING.apply(node, marks, walk)
        return [Mark(shape, mark.axis if layer.keepdims else -1, mark.ids, mark.values)]


class Reducing(Rule):
    """`keras.ops.mean` and its like over axes that are not the channels'."""

    def apply(self, node, marks, walk):
        operation, mark, shape = node.operation, marks[0], node.outputs[0].shape
        rank = len(mark.shape)
        axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis)
        axes = {int(a) % rank - rank for a in axes}
        if mark.axis in axes or -rank in axes:
            return FREEZING.apply(node, marks, walk)
        gone = 0 if operation.keepdims else sum(a > mark.axis for a in axes)
        return [Mark(shape, mark.axis + gone, mark.ids, mark.values)]


class Elementwise(Rule):
    """Channels that meet are tied; constants are what the operation makes of them."""

    def apply(self, node, marks, walk):
        shape, axis = node.outputs[0].shape, marks[0].axis
        wide = [m for m in marks if m.shape[m.axis] != 1 or shape[axis] == 1]
        arrays = [x for x in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)) if np.ndim(x) > 0]
        constants = [x for x in arrays if not isinstance(x, keras.KerasTensor)]
        if len({(m.axis, len(m.ids)) for m in wide}) != 1 or any(np.size(c) > 1 for c in constants):
            return FREEZING.apply(node, marks, walk)
        for mark in marks:
            if mark not in wide:
                walk.ties.freeze(mark.ids, f"{node.operation.name!r} spreads one channel over all")
            else:
                walk.ties.tie(wide[0].ids, mark.ids)
        mark = Mark(shape, wide[0].axis, wide[0].ids, self._values(node, marks))
        return [walk.watched(node, mark, self._sparse(node)) if self._is_nonlinear(node.operation) else mark]

    def _is_nonlinear(self, operation):
        return isinstance(operation, (*elementwise.NONLINEAR_LAYERS, *_NONLINEAR))

    def _sparse(self, node):
        return elementwise.gives_zeros(getattr(node.operation, "activation", node.operation))

    def _values(self, node, marks):
        return self._computed(node, marks, np.all(_broadcast([m.constant for m in marks]), axis=0))

    def _computed(self, node, marks, constant):
        if not constant.any():
            return varying(len(constant))
        known = {id(t): m.array() for t, m in zip(node.input_tensors, marks, strict=True)}
        args, kwargs = node.arguments.fill_in(known)
        result = ops.convert_to_numpy(node.operation(*args, **kwargs)).astype("float64")
        return np.where(constant, result.ravel(), np.nan)


class Multiplying(Elementwise):
    """Zero times anything is zero."""

    def _values(self, node, marks):
        zero = np.any(_broadcast([m.values == 0 for m in marks]), axis=0)
        constant = np.all(_broadcast([m.constant for m in marks]), axis=0)
        return np.where(zero, 0, self._computed(node, marks, constant))


class Activating(Elementwise):
    """The Activation layer, if its function sees one entry only."""

    def apply(self, node, marks, walk):
        known = elementwise.is_elementwise(node.operation.activation)
        return (super() if known else FREEZING).apply(node, marks, walk)

    def _is_nonlinear(self, operation):
        return not elementwise.is_linear(operation.activation)


class Scaling(Elementwise):
    """Rescaling by numbers; by vectors, which it does not hold as variables, it freezes."""

    def apply(self, node, marks, walk):
        numbers = np.ndim(node.operation.scale) == np.ndim(node.operation.offset) == 0
        return (super() if numbers else FREEZING).apply(node, marks, walk)


class Normalizing(Elementwise):
    """BatchNormalization over the channels: four vectors, or less."""

    def apply(self, node, marks, walk):
        layer, mark = node.operation, marks[0]
        if layer.axis % len(mark.shape) - len(mark.shape) != mark.axis or len(marks) > 1:
            return FREEZING.apply(node, marks, walk)
        for variable in layer.weights:
            walk.carry(layer, variable, 0, mark.ids, "through")
        return super().apply(node, marks, walk)


class Leaking(Elementwise):
    """PReLU: its slopes lie along the channels and, unless shared, along the places too."""

    def apply(self, node, marks, walk):
        layer, mark = node.operation, marks[0]
        if len(layer.alpha.shape) != len(mark.shape) - 1:
            return FREEZING.apply(node, marks, walk)
        if layer.alpha.shape[mark.axis] == 1 < len(mark.ids):
            walk.ties.freeze(mark.ids, f"{layer.name!r} shares its slopes between channels")
        else:
            walk.carry(layer, layer.alpha, len(layer.alpha.shape) + mark.axis, mark.ids, "through")
        return super().apply(node, marks, walk)

    def _is_nonlinear(self, operation):
        return True

    def _sparse(self, node):
        return False

    def _values(self, node, marks):
        return np.where(marks[0].values >= 0, marks[0].values, np.nan)  # below zero each place may have its own slope


def _broadcast(flags):
    size = max(len(f) for f in flags)
    return [np.broadcast_to(f, size) for f in flags]


FREEZING, PADDING = Freezing(), Padding()
_NONLINEAR = elementwise.nonlinear_operations()

_SPATIAL = ("Cropping", "UpSampling", "MaxPooling", "AveragePooling", "SpatialDropout")
_PLACING = [vars(layers)[f"{name}{d}D"] for name in _SPATIAL for d in (1, 2, 3)]
_PASSING = [layers.Dropout, layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout, layers.Identity]
_POOLING = [vars(layers)[f"Global{kind}Pooling{d}D"] for kind in ("Max", "Average") for d in (1, 2, 3)]

RULES: dict[type, Rule] = {
    **dict.fromkeys(_PASSING, Passing()),
    **dict.fromkeys(_PLACING, Placing()),
    **dict.fromkeys([layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D], PADDING),
    **dict.fromkeys(_POOLING, Pooling()),
    **dict.fromkeys(elementwise.operations((ops.mean, ops.max, ops.min)), Reducing()),
    **dict.fromkeys((*elementwise.NONLINEAR_LAYERS, *elementwise.MERGING_LAYERS), Elementwise()),
    **dict.fromkeys((*elementwise.arithmetic_operations(), *_NONLINEAR), Elementwise()),
    **dict.fromkeys((layers.Multiply, *elementwise.operations([ops.multiply], 2)), Multiplying()),
    layers.Activation: Activating(),
    layers.BatchNormalization: Normalizing(),
    layers.Rescaling: Scaling(),
    layers.PReLU: Leaking(),
}


def register(kind: type, rule: Rule) -> None:
    """Teach the graph a layer or operation of your own."""
    RULES[kind] = rule


def of(operation) -> Rule:
    """The rule of an operation; a subclass that calls otherwise than its parent is not understood."""
    for kind in type(operation).__mro__:
        if kind in RULES:
            return RULES[kind] if type(operation).call is kind.call else FREEZING
    return FREEZING
