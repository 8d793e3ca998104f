"""How many multiply-adds a model's kernels need for one example.

    multiply-adds of a kernel = entries of the kernel * how often each entry is used per example
    FLOPs = 2 * multiply-adds

All entries of a kernel are used equally often. So the same number serves for a dense kernel (all entries), for a pruned
one (its non-zero entries) and for a smaller one (the entries of the channels that are kept). Zero padding counts as
input. Products without a kernel, as between queries and keys, are not counted.
"""

import inspect
import math
from collections.abc import Callable, Iterator

import keras
from keras import layers

from tfsparse.backend import keras_internals
from tfsparse.optimizers.masked_layer import MaskedLayer
from tfsparse.pruners.selection import is_prunable

Shape = tuple[int | None, ...]
Uses = Callable[[keras.layers.Layer, Shape, Shape], int | None]
USES: dict[type, Uses] = {}


def register(kind: type, uses: Uses) -> None:
    """Register how often a layer of your own uses each entry of its kernels.

    Args:
        kind: The class of the layer. Its subclasses are included.
        uses: `(layer, input shape, output shape) -> uses per example`, or None if a needed size is None. The shapes are
            those of the first input and the first output, with the batch axis.

    Examples:
        >>> multiply_adds.register(MyDense, lambda layer, inputs, outputs: multiply_adds.product(outputs[1:-1]))
    """
    USES[kind] = uses


def uses_per_entry(model: keras.Model) -> dict[int, int | None]:
    """Count how often one example uses each entry of each kernel.

    Every call in the model's graph counts: a layer that is called twice uses its kernel twice.

    Args:
        model: A built model.

    Returns:
        `{id of kernel: uses}` for all kernels of the model. None where the number is unknown: in subclassed models, for
        layers without a rule (see `register`), and where the model leaves the size of its input open.
    """
    uses = {}
    for kernel, number in _of_call(model, {}, ()):
        uses.setdefault(id(kernel), []).append(number)
    return {id(kernel): total(uses.get(id(kernel), [None])) for kernel in _kernels(model)}


def layer_without_rule(model: keras.Model, kernel):
    """Return the outermost layer of a kernel that has no rule; None if the sizes alone are unknown."""
    for layer in keras_internals.all_layers(model):
        has_rule = keras_internals.graph(layer) is not None or _rule(layer)[0] is not None
        if not has_rule and any(v is kernel for v in layer.weights):
            return layer
    return None


def product(sizes) -> int | None:
    """Return the product of sizes; None if one of them is None."""
    return None if None in sizes else math.prod(sizes)


def total(numbers) -> int | None:
    """Return the sum of numbers; None if one of them is None."""
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


def _kernels(layer):
    return [v for v in layer.weights if is_prunable(v)]


def _of_call(layer, inputs: dict[str, Shape], output: Shape) -> Iterator[tuple]:
    """Yield (kernel, uses per example) for one call of a layer, given the shapes of its arguments by name."""
    graph = keras_internals.graph(layer)
    if graph is not None:
        for node in keras_internals.nodes(graph):
            if getattr(node.operation, "weights", ()):
                yield from _of_call(node.operation, *_shapes(node))
        return
    rule, is_composite = _rule(layer)
    if is_composite:
        for repetitions, *call in rule(layer, inputs, output):
            yield from ((kernel, product([number, repetitions])) for kernel, number in _of_call(*call))
        return
    first_input = next(iter(inputs.values()), None)
    number = None if rule is None or first_input is None else rule(layer, first_input, output)
    yield from ((kernel, number) for kernel in _kernels(layer))


def _shapes(node):
    """Return the shapes of the arguments of a call by name, and the shape of its first output."""
    arguments = inspect.signature(node.operation.call).bind(*node.arguments.args, **node.arguments.kwargs).arguments
    shapes = {name: tuple(x.shape) for name, x in arguments.items() if isinstance(x, keras.KerasTensor)}
    return shapes, tuple(node.output_tensors[0].shape)


def _rule(layer):
    """Return the rule of the nearest class, and whether it lists calls of other layers."""
    tables = ((kind, table) for kind in type(layer).__mro__ for table in (USES, _CALLS_INSIDE))
    return next(((table[kind], table is _CALLS_INSIDE) for kind, table in tables if kind in table), (None, False))


# ---- layers with kernels ---------------------------------------------------------------------------------------------


def _positions(layer, shape):
    """Entries of one example besides the channels."""
    return product(shape[2:] if getattr(layer, "data_format", None) == "channels_first" else shape[1:-1])


def _output_positions(layer, inputs, output):
    return _positions(layer, output)


def _input_positions(layer, inputs, output):
    """A transposed convolution multiplies the whole kernel with every input position."""
    return _positions(layer, inputs)


def _einsum(layer, inputs, output):
    """In `abc,bd->adc` each entry of the kernel meets every c: all axes of the input that the kernel does not have."""
    spec, kernel = layer.equation.split("->")[0].replace(" ", "").split(",")
    head, _, tail = spec.partition("...")
    labels = head + "." * (len(inputs) - len(head) - len(tail)) + tail
    return product([n for label, n in zip(labels[1:], inputs[1:], strict=True) if label not in kernel])


def _convolutional_steps(layer, inputs, output):
    one_step = (output[0], *output[2:]) if layer.return_sequences else output
    return product([inputs[1], _positions(layer, one_step)])


_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
for _kinds, _uses in (
    ((layers.Dense, *_CONVOLUTIONS, layers.SeparableConv1D, layers.SeparableConv2D, *_CELLS), _output_positions),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _input_positions),
    ((layers.EinsumDense,), _einsum),
    ((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _convolutional_steps),
):
    for _kind in _kinds:
        register(_kind, _uses)


# ---- layers that call other layers: (repetitions, layer, shapes of its arguments, shape of its output) ---------------


def _same_call(*names):
    return lambda layer, inputs, output: [(1, getattr(layer, name), inputs, output) for name in names]


def _every_time_step(layer, inputs, output):
    steps = next(iter(inputs.values()))[1]
    yield steps, layer.layer, {k: (n, *shape) for k, (n, _, *shape) in inputs.items()}, (output[0], *output[2:])


def _every_state(layer, inputs, output):
    """A recurrent layer calls its cells once per time step, each with a vector."""
    steps = next(iter(inputs.values()))[1]
    for cell in getattr(layer.cell, "cells", [layer.cell]):
        yield steps, cell, {"inputs": (None, None)}, (None, None)


def _projections(layer, inputs, output):
    """In attention, queries, keys, values and outputs each have a kernel; the output is as long as the queries."""
    query, value = (inputs.get(name) for name in ("query", "value"))
    if query is None or value is None:
        return
    by_name = {"key": inputs.get("key", value), "value": value}
    for dense in keras_internals.all_layers(layer):
        if isinstance(dense, layers.EinsumDense):
            heads = dense.kernel.shape[:2]  # of the last kernel: (heads, size of a head, outputs)
            shape = (*query[:-1], *heads) if dense.name == "attention_output" else by_name.get(dense.name, query)
            yield 1, dense, {"inputs": shape}, ()


_CALLS_INSIDE = {
    MaskedLayer: _same_call("layer"),
    layers.SpectralNormalization: _same_call("layer"),
    layers.Bidirectional: _same_call("forward_layer", "backward_layer"),
    layers.TimeDistributed: _every_time_step,
    layers.RNN: _every_state,
    layers.MultiHeadAttention: _projections,
    layers.GroupQueryAttention: _projections,
}
