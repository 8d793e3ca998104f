"""Layer-wise relevance propagation (LRP) through the graph of a model, with alpha = 2 and beta = 1."""

import dataclasses
from collections.abc import Callable

import keras
from keras import layers, ops

from tfsparse.backend import derivatives, keras_internals
from tfsparse.structured import elementwise, rules
from tfsparse.structured.channel_tracer import functional, is_graph

ALPHA, BETA = 2.0, 1.0
_STABILIZER = 1e-9  # added to what relevance is divided by

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def _by_rank(*names):
    return tuple(vars(layers)[f"{name}{rank}D"] for name in names for rank in (1, 2, 3))


_UNCHANGED = (
    *(layers.BatchNormalization, layers.Activation, layers.Dropout, layers.GaussianDropout, layers.GaussianNoise),
    *(layers.AlphaDropout, layers.Identity, layers.PReLU, layers.Rescaling, *elementwise.NONLINEAR_LAYERS),
    *_by_rank("SpatialDropout"),
    *elementwise.nonlinear_operations(),
)
_SHARED_OUT = (  # f(2x) = 2 f(x): each input has its part x * df/dx of the output
    *_by_rank("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling"),
    *_by_rank("ZeroPadding", "Cropping", "UpSampling"),
    *(layers.Add, layers.Average, layers.Subtract, layers.Concatenate, layers.Flatten, layers.Reshape, layers.Permute),
    *elementwise.operations((ops.add, ops.subtract), 2),
    *elementwise.operations((ops.mean, lambda x: ops.pad(x, [[0, 0], [1, 1]]), lambda x: ops.concatenate([x, x]))),
)


def kernel_relevance(function: Callable, x, kernel, relevance, alpha: float = ALPHA, beta: float = BETA):
    """Return the relevance of the inputs of a layer with a kernel, of that of its outputs.

        z+ = f(x+, w+) + f(x-, w-)            the positive contributions to the outputs, where x = x+ + x-
        z- = f(x+, w-) + f(x-, w+)            the negative ones
        R_in = alpha * x * dz+/dx^T (R / z+) - beta * x * dz-/dx^T (R / z-)

    The sum of the relevance stays, since alpha - beta = 1, where an output has contributions of both signs.

    Args:
        function: The layer without bias and activation, a function of inputs and kernel.
        x: Inputs.
        kernel: Kernel.
        relevance: Relevance of the outputs.
        alpha: Weight of the positive contributions. Default: 2.0.
        beta: Weight of the negative contributions. Default: 1.0.

    Returns:
        A tensor of the shape of `x`.

    Source:
        Aketi, Roy, Raghunathan, Roy, "Gradual Channel Pruning while Training using Feature Relevance Scores for
        Convolutional Neural Networks" (arXiv 2002.09958), for inputs that are not negative: the outputs of ReLU.
    """
    signs = (ops.relu, lambda a: -ops.relu(-a))
    parts = [sign(x) for sign in signs]
    positive, negative = [sign(kernel) for sign in signs]

    def part(first, second, factor):
        def contributions(inputs):
            return function(inputs[0], first) + function(inputs[1], second)

        return [factor * r for r in _shared_out(contributions, parts, relevance)]

    found = zip(part(positive, negative, alpha), part(negative, positive, -beta), strict=True)
    return sum(first + second for first, second in found)


def _shared_out(function, inputs, relevance):
    """Return `x * df/dx^T (R / f(x))` for each of the inputs."""
    outputs = function(inputs)
    sign = ops.where(outputs < 0, -1.0, 1.0)
    share = relevance / (outputs + _STABILIZER * sign)
    gradients = derivatives.gradients(lambda tensors: ops.sum(function(tensors) * share), inputs)
    return [x * gradient for x, gradient in zip(inputs, gradients, strict=True)]


# ---- the graph -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class _Tensor:
    """A tensor of the forward pass, and the relevance that has come back to it so far."""

    value: object
    relevance: object = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """A call of a layer or operation in the forward pass."""

    node: object
    inputs: dict[int, _Tensor]  # by the ids of the symbolic tensors
    output: _Tensor

    def function(self, values):
        """Return the output for other values of the inputs."""
        args, kwargs = self.node.arguments.fill_in(dict(zip(self.inputs, values, strict=True)))
        return self.node.operation(*args, **kwargs)


def check(model) -> None:
    """Refuse a model through which relevance cannot be propagated.

    Raises:
        ValueError: If it has an operation without a rule, or not one input and one output with a value per class.
    """
    graph = functional(model)
    shapes = [tuple(tensor.shape) for tensor in graph.outputs]
    if len(graph.inputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 2 or (shapes[0][1] or 0) < 2:
        raise ValueError(
            f"Model {model.name!r} has {len(graph.inputs)} inputs and outputs of shape {', '.join(map(str, shapes))}: "
            "relevance begins at the class of an example, so one input and one output with a number for each of at "
            "least two classes are expected. Write tfsparse.FilterPruning(model) for another model."
        )
    for node in _nodes(graph):
        operation = node.operation
        kind = type(operation)
        known = issubclass(kind, (layers.Dense, *_CONVOLUTIONS, *_DEPTHWISE, *_UNCHANGED, *_SHARED_OUT))
        if not known or rules.for_operation(operation) is rules.UNKNOWN:
            raise ValueError(
                f"Relevance cannot be propagated through {operation.name!r}, a {kind.__name__}: expected dense, "
                "convolutional and depthwise layers, BatchNormalization, activations, pooling, additions and "
                "concatenations. Write tfsparse.FilterPruning(model), which needs no relevance."
            )


def _nodes(graph):
    for node in keras_internals.nodes(graph):
        if is_graph(node.operation):
            yield from _nodes(functional(node.operation))
        else:
            yield node


def propagate(model, x, labels, layers_of_interest) -> tuple:
    """Return the relevance of the outputs of layers, and the outputs of the model.

        R of the output = one-hot label, then backwards through all calls:
            dense, convolutional    `kernel_relevance`
            BatchNormalization, activation, dropout    R_in = R
            pooling, addition, reshaping ...           R_in = x * dy/dx^T (R / y)

    Args:
        model: A model that `check` accepts.
        x: Inputs of a batch.
        labels: One row per example and one column per class: 1 for its class, else 0.
        layers_of_interest: The layers. Their relevance is summed over their calls and averaged over positions.

    Returns:
        A list of tensors of shape (examples, channels), and the outputs.
    """
    graph, calls = functional(model), []
    (output,) = _forward(graph, [_Tensor(x)], calls)
    output.relevance = ops.cast(labels, "float32")
    found = {id(layer): 0.0 for layer in layers_of_interest}
    for call in reversed(calls):
        layer, relevance = call.node.operation, call.output.relevance
        if id(layer) in found:
            found[id(layer)] += _mean_over_positions(layer, relevance)
        for tensor, part in zip(call.inputs.values(), _backward(call, relevance), strict=True):
            tensor.relevance += part
    return [found[id(layer)] for layer in layers_of_interest], output.value


def _forward(graph, inputs, calls):
    """Return the outputs of a graph, and append its calls to the list."""
    tensors = {id(t): tensor for t, tensor in zip(graph.inputs, inputs, strict=True)}
    for node in keras_internals.nodes(graph):
        own = {id(t): tensors[id(t)] for t in node.input_tensors}
        if is_graph(node.operation):
            outputs = _forward(functional(node.operation), list(own.values()), calls)
        else:
            call = _Call(node, own, _Tensor(None))
            call.output.value = call.function([tensor.value for tensor in own.values()])
            calls.append(call)
            outputs = [call.output]
        tensors.update(zip(map(id, node.outputs), outputs, strict=True))
    return [tensors[id(t)] for t in graph.outputs]


def _backward(call, relevance):
    """Return the relevance of each of the inputs of a call."""
    layer, inputs = call.node.operation, [ops.cast(tensor.value, "float32") for tensor in call.inputs.values()]
    if isinstance(layer, _UNCHANGED):
        return [relevance]
    if isinstance(layer, _SHARED_OUT):
        return _shared_out(lambda tensors: ops.cast(call.function(tensors), "float32"), inputs, relevance)
    return [kernel_relevance(without_bias(layer), inputs[0], ops.cast(layer.kernel, "float32"), relevance)]


def without_bias(layer):
    """Return a layer with a kernel as a function of inputs and kernel, without bias and activation."""
    if isinstance(layer, layers.Dense):
        return ops.matmul
    if isinstance(layer, _DEPTHWISE):
        names = ("strides", "padding", "data_format", "dilation_rate")
        options = {name: getattr(layer, name) for name in names}
        return lambda x, kernel: ops.depthwise_conv(x, kernel, **options)
    return layer.convolution_op


def _mean_over_positions(layer, relevance):
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else len(relevance.shape) - 1
    positions = [a for a in range(1, len(relevance.shape)) if a != axis]
    return ops.mean(relevance, axis=positions) if positions else relevance


class RelevanceLayer(keras.layers.Layer):
    """Computes the relevance of channels for the classes of examples.

    Args:
        model: A model that `check` accepts.
        layers_of_interest: Layers of it.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, model, layers_of_interest, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.model, self._num_classes = model, model.outputs[0].shape[-1]
        self._layers_of_interest = layers_of_interest
        self._size = sum(layer.kernel.shape[-1] for layer in layers_of_interest)

    def call(self, x, labels):
        """Return the relevance of all channels of the layers, one after the other, and the model's outputs."""
        found, outputs = propagate(self.model, x, labels, self._layers_of_interest)
        return ops.concatenate(found, axis=1), ops.cast(outputs, "float32")

    def compute_output_spec(self, x, labels):
        shapes = (None, self._size), (None, self._num_classes)
        return tuple(keras.KerasTensor(shape, "float32") for shape in shapes)
