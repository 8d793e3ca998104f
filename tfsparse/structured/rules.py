"""How each kind of operation treats channels. An operation without a rule freezes the channels of its inputs.

A rule for a layer of your own: `register(MyLayer, rule)`. docs/shrinking.md has a complete example.
"""

import abc

import keras
import numpy as np
from keras import layers, ops

from tfsparse.structured import elementwise
from tfsparse.structured.channel_info import ChannelInfo, not_constant


class Rule(abc.ABC):
    """How one kind of operation treats channels."""

    @abc.abstractmethod
    def apply(self, node, inputs: list[ChannelInfo], tracer) -> list[ChannelInfo]:
        """Trace the channels through one call.

        Args:
            node: The call. `node.operation` is the layer, `node.outputs` are its `KerasTensor` outputs.
            inputs: What is known of the channels of each input.
            tracer: The `ChannelTracer`. The rule tells it which variables belong to which channels
                (`assign`), which channels are coupled or frozen (`sets.union`, `sets.freeze`), and which arguments of
                the layer change with the number of channels (`resize`).

        Returns:
            What is known of the channels of each output.
        """


class Unknown(Rule):
    """Freeze the channels of all inputs and outputs."""

    def apply(self, node, inputs, tracer):
        reason = f"{type(node.operation).__name__} {node.operation.name!r} is not understood"
        for info in inputs:
            tracer.sets.freeze(info.ids, f"{reason} and reads them")
        return [tracer.frozen_channels(t.shape, f"{reason} and makes them") for t in node.outputs]


class PassThrough(Rule):
    """Every channel stays as it is, as in dropout in inference mode."""

    def apply(self, node, inputs, tracer):
        info = inputs[0]
        return [ChannelInfo(node.outputs[0].shape, info.axis, info.ids, self.constant_values(info))]

    def constant_values(self, info: ChannelInfo) -> np.ndarray:
        """Return the constant values of the outputs."""
        return info.values


class Spatial(PassThrough):
    """Change positions and not channels, so that constants stay: pooling, cropping, upsampling."""

    def apply(self, node, inputs, tracer):
        is_expected = inputs[0].axis == tracer.channel_axis(node.operation, len(inputs[0].shape))
        return (super() if is_expected else UNKNOWN).apply(node, inputs, tracer)


class ZeroPadding(Spatial):
    """Add zeros around each channel: of the constants only zero stays constant."""

    def constant_values(self, info):
        return np.where(info.values == 0, 0, np.nan)


class GlobalPooling(Rule):
    """Reduce all positions: the channels move to the last axis, or keep theirs."""

    def apply(self, node, inputs, tracer):
        layer, info = node.operation, inputs[0]
        if info.axis != tracer.channel_axis(layer, len(info.shape)):
            return UNKNOWN.apply(node, inputs, tracer)
        return [ChannelInfo(node.outputs[0].shape, info.axis if layer.keepdims else -1, info.ids, info.values)]


class Reduction(Rule):
    """`keras.ops.mean`, `max` and `min` over axes other than the channel axis."""

    def apply(self, node, inputs, tracer):
        operation, info = node.operation, inputs[0]
        rank = len(info.shape)
        axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis)
        axes = {int(a) % rank - rank for a in axes}
        if info.axis in axes or -rank in axes:
            return UNKNOWN.apply(node, inputs, tracer)
        num_removed = 0 if operation.keepdims else sum(a > info.axis for a in axes)
        return [ChannelInfo(node.outputs[0].shape, info.axis + num_removed, info.ids, info.values)]


class Elementwise(Rule):
    """Couple the channels that meet; a constant becomes what the operation makes of it."""

    def apply(self, node, inputs, tracer):
        shape, axis = node.outputs[0].shape, inputs[0].axis
        wide = [info for info in inputs if info.shape[info.axis] != 1 or shape[axis] == 1]
        arrays = [x for x in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)) if np.ndim(x) > 0]
        arrays = [x for x in arrays if not isinstance(x, keras.KerasTensor)]
        if len({(info.axis, len(info.ids)) for info in wide}) != 1 or any(np.size(x) > 1 for x in arrays):
            return UNKNOWN.apply(node, inputs, tracer)
        for info in inputs:
            if info in wide:
                tracer.sets.union(wide[0].ids, info.ids)
            else:
                tracer.sets.freeze(info.ids, f"{node.operation.name!r} spreads one channel over all")
        info = ChannelInfo(shape, wide[0].axis, wide[0].ids, self._values(node, inputs))
        is_nonlinear = self._is_nonlinear(node.operation)
        return [tracer.record_activation(node, info, self._gives_zeros(node.operation)) if is_nonlinear else info]

    def _is_nonlinear(self, operation):
        return isinstance(operation, (*elementwise.NONLINEAR_LAYERS, *_NONLINEAR))

    def _gives_zeros(self, operation):
        return elementwise.gives_zeros(getattr(operation, "activation", operation))

    def _values(self, node, inputs):
        return self._computed(node, inputs, np.all(_broadcast([info.is_constant for info in inputs]), axis=0))

    def _computed(self, node, inputs, is_constant):
        if not is_constant.any():
            return not_constant(len(is_constant))
        tensors = {id(t): info.constant_tensor() for t, info in zip(node.input_tensors, inputs, strict=True)}
        args, kwargs = node.arguments.fill_in(tensors)
        result = ops.convert_to_numpy(node.operation(*args, **kwargs)).astype("float64")
        return np.where(is_constant, result.ravel(), np.nan)


class Multiply(Elementwise):
    """Zero times any channel is zero."""

    def _values(self, node, inputs):
        is_zero = np.any(_broadcast([info.values == 0 for info in inputs]), axis=0)
        return np.where(is_zero, 0, super()._values(node, inputs))


class Activation(Elementwise):
    """The Activation layer, if its function treats every entry alone."""

    def apply(self, node, inputs, tracer):
        is_known = elementwise.is_elementwise(node.operation.activation)
        return (super() if is_known else UNKNOWN).apply(node, inputs, tracer)

    def _is_nonlinear(self, operation):
        return not elementwise.is_linear(operation.activation)


class Rescaling(Elementwise):
    """The Rescaling layer, if scale and offset are single numbers."""

    def apply(self, node, inputs, tracer):
        is_known = np.ndim(node.operation.scale) == np.ndim(node.operation.offset) == 0
        return (super() if is_known else UNKNOWN).apply(node, inputs, tracer)


class BatchNormalization(Elementwise):
    """BatchNormalization along the channel axis: up to four vectors."""

    def apply(self, node, inputs, tracer):
        layer, info = node.operation, inputs[0]
        if layer.axis % len(info.shape) - len(info.shape) != info.axis or len(inputs) > 1:
            return UNKNOWN.apply(node, inputs, tracer)
        for variable in layer.weights:
            tracer.assign(layer, variable, 0, info.ids, "per_channel")
        return super().apply(node, inputs, tracer)


class PReLU(Elementwise):
    """PReLU: one slope per channel and, unless they are shared, per position."""

    def apply(self, node, inputs, tracer):
        layer, info = node.operation, inputs[0]
        if len(layer.alpha.shape) != len(info.shape) - 1:
            return UNKNOWN.apply(node, inputs, tracer)
        if layer.alpha.shape[info.axis] == 1 < len(info.ids):
            tracer.sets.freeze(info.ids, f"{layer.name!r} shares its slopes between channels")
        else:
            tracer.assign(layer, layer.alpha, len(layer.alpha.shape) + info.axis, info.ids, "per_channel")
        return super().apply(node, inputs, tracer)

    def _is_nonlinear(self, operation):
        return True

    def _gives_zeros(self, operation):
        return False

    def _values(self, node, inputs):
        return np.where(inputs[0].values >= 0, inputs[0].values, np.nan)  # below zero each position has its own slope


def _broadcast(flags):
    size = max(len(f) for f in flags)
    return [np.broadcast_to(f, size) for f in flags]


UNKNOWN, ZERO_PADDING = Unknown(), ZeroPadding()
_NONLINEAR = elementwise.nonlinear_operations()
_SPATIAL = ("Cropping", "UpSampling", "MaxPooling", "AveragePooling", "SpatialDropout")
_PASS_THROUGH = (layers.Dropout, layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout, layers.Identity)


def _by_rank(*names):
    return [vars(layers)[f"{name}{d}D"] for name in names for d in (1, 2, 3)]


RULES: dict[type, Rule] = {
    **dict.fromkeys(_PASS_THROUGH, PassThrough()),
    **dict.fromkeys(_by_rank(*_SPATIAL), Spatial()),
    **dict.fromkeys(_by_rank("ZeroPadding"), ZERO_PADDING),
    **dict.fromkeys(_by_rank("GlobalMaxPooling", "GlobalAveragePooling"), GlobalPooling()),
    **dict.fromkeys(elementwise.operations((ops.mean, ops.max, ops.min)), Reduction()),
    **dict.fromkeys((*elementwise.NONLINEAR_LAYERS, *elementwise.MERGING_LAYERS), Elementwise()),
    **dict.fromkeys((*elementwise.arithmetic_operations(), *_NONLINEAR), Elementwise()),
    **dict.fromkeys((layers.Multiply, *elementwise.operations([ops.multiply], 2)), Multiply()),
    layers.Activation: Activation(),
    layers.BatchNormalization: BatchNormalization(),
    layers.Rescaling: Rescaling(),
    layers.PReLU: PReLU(),
}


def register(kind: type, rule: Rule) -> None:
    """Register the rule for a layer or operation of your own.

    Args:
        kind: The class of the layer. Subclasses are included as long as they do not override `call`.
        rule: An instance of a `Rule`, for example `rules.Elementwise()`.

    Examples:
        >>> rules.register(MyElementwiseLayer, rules.Elementwise())
    """
    RULES[kind] = rule


def for_operation(operation) -> Rule:
    """Return the rule of an operation; a subclass with a `call` of its own has none of its parent's."""
    for kind in type(operation).__mro__:
        if kind in RULES:
            return RULES[kind] if type(operation).call is kind.call else UNKNOWN
    return UNKNOWN
