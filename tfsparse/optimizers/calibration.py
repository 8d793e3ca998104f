"""A model and data: what weights are scored on outside of training."""

import math

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import derivatives, keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.batch_loss import batch, inference_calls


class Calibration:
    """The outputs and the loss of a model on one batch, as functions of the weights that are pruned.

    BatchNormalization uses the statistics of the batch and keeps its moving ones. Layers that draw random numbers
    behave as in inference. No variable is written.

    Args:
        model: A built Keras 3 model.
        weights: The variables that are pruned.
        data: One batch: `x`, `(x, y)` or `(x, y, sample_weight)`, arrays or nests of arrays; or None.

    Raises:
        TypeError: If `data` is something else.
        ValueError: If the inputs have another shape than those of the model, or arrays have different numbers of rows.
    """

    gradients, hessian_product = staticmethod(derivatives.gradients), staticmethod(derivatives.hessian_product)

    def __init__(self, model: keras.Model, weights: list, data=None):
        self.model, self.weights = model, list(weights)
        has_only_inputs = data is None or isinstance(data, (np.ndarray, dict)) or ops.is_tensor(data)
        self._data = batch((data, None) if has_only_inputs else data)
        _check_inputs(model, self._data[0])

    @property
    def num_rows(self) -> int:
        """Number of rows of the data."""
        return tree.flatten(self._data[0])[0].shape[0]

    def outputs(self, weights: list, x=None, training: bool = True, others=()):
        """Return the outputs of the model.

        Args:
            weights: Values of the weights.
            x: Inputs. Default: None, those of the data.
            training: Whether layers behave as in training. Default: True.
            others: Pairs of a further variable and its value. Default: none, all have their present values.
        """
        values = [*zip(self.weights, weights, strict=True), *others]
        with keras.StatelessScope(values), keras_internals.replaced(inference_calls(self.model, keras.layers)):
            return self.model(self._data[0] if x is None else x, training=training)

    def loss(self, weights: list, rows=None, temperature: float = 1.0):
        """Return the loss of `compile`, without regularisation.

        Args:
            weights: Values of the weights.
            rows: Indices of rows of the data. Default: None, all rows.
            temperature: What the outputs are divided by. Default: 1.0.

        Raises:
            ValueError: If the model is not compiled with a loss, or if the data has no labels.
        """
        loss = self._loss()
        x, y, sample_weight = tree.map_structure(lambda a: _rows_of(a, rows), self._data)
        outputs = tree.map_structure(lambda output: output / temperature, self.outputs(weights, x))
        return loss(y, outputs, sample_weight)

    def flow(self, weights: list):
        """Return the sum of the outputs for inputs of ones, where all other variables have their absolute values."""
        own = {id(v) for v in self.weights}
        others = [v for v in self.model.variables if id(v) not in own and "float" in v.dtype]
        absolute = [(v, ops.abs(backend_ops.read(v))) for v in others]
        outputs = self.outputs(weights, self._ones(), training=False, others=absolute)
        return sum(ops.sum(ops.cast(output, "float32")) for output in tree.flatten(outputs))

    def layer_inputs(self, weights: list, others=()) -> list:
        """Return for each weight the inputs that it is multiplied with in inference.

        Args:
            weights: Values of the weights.
            others: Pairs of a further variable and its value. Default: none, all have their present values.

        Returns:
            Tensors of the shape `(rows, inputs of one output)`: rows of a Dense layer's inputs, patches of a
            convolution's. The columns are in the order of `kernel.reshape(matrix_shape)`.

        Raises:
            ValueError: If there is no data, or if a weight is no kernel of a Dense, EinsumDense or Conv2D layer.
        """
        if self._data[0] is None:
            raise ValueError("data is None, and the inputs of layers are measured on it: expected data=x, one batch.")
        layers, recorded = [layer_of(self.model, v) for v in self.weights], {}
        calls = [(layer, "call", _recording(layer, recorded.setdefault(id(layer), []))) for layer in layers]
        with keras_internals.replaced(calls):
            self.outputs(weights, training=False, others=others)
        return [ops.concatenate([_patches(layer, x) for x in recorded[id(layer)]]) for layer in layers]

    def matrix_shapes(self) -> list[tuple[int, int]]:
        """Return for each weight how many inputs one output has, and how many outputs there are.

        Raises:
            ValueError: If a weight is no kernel of a Dense, EinsumDense or Conv2D layer.
        """
        axes = [_num_input_axes(layer_of(self.model, v), v) for v in self.weights]
        return [(math.prod(v.shape[:n]), math.prod(v.shape[n:])) for v, n in zip(self.weights, axes, strict=True)]

    def class_labels(self, weights: list):
        """Return the class of each row and the number of classes; None if the labels are no classes."""
        self._loss()  # without labels there are no classes
        y, outputs = self._data[1], self.outputs(weights)
        if tree.is_nested(y) or tree.is_nested(outputs):
            return None
        y = backend_ops.to_numpy(y)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim == 2 and np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1):
            return y.argmax(axis=1), y.shape[1]
        num_classes = max(outputs.shape[-1], 2)
        are_classes = y.ndim == 1 and np.all((y == np.floor(y)) & (y >= 0) & (y < num_classes))
        return (y.astype(int), num_classes) if are_classes else None

    def _loss(self):
        loss = keras_internals.compiled_loss(self.model)
        if loss is None:
            raise ValueError(
                f"Model {self.model.name!r} is not compiled, so its loss is not known: write model.compile(optimizer, "
                "loss) first."
            )
        if self._data[1] is None:
            raise ValueError("data has no labels, and the loss needs them: expected data=(x, y), one batch of arrays.")
        return loss

    def _ones(self):
        """Return one row of inputs that are all 1."""
        if self._data[0] is not None:
            return tree.map_structure(lambda a: ops.ones_like(a[:1]), self._data[0])
        inputs = _inputs(self.model)
        if inputs is None or any(None in tensor.shape[1:] for tensor in tree.flatten(inputs)):
            raise ValueError(
                f"The shape of the inputs of {self.model.name!r} is not known, because it is subclassed or open: "
                "expected an example of them, data=x[:1]."
            )
        return tree.map_structure(lambda tensor: ops.ones((1, *tensor.shape[1:]), tensor.dtype), inputs)


def layer_of(model, kernel):
    """Return the layer whose kernel this is."""
    found = [x for x in keras_internals.all_layers(model) if kernel is getattr(x, "kernel", None)]
    layer = found[0] if found else None
    if isinstance(layer, keras.layers.Dense):
        return layer
    if isinstance(layer, keras.layers.Conv2D) and layer.groups == 1 and layer.data_format == "channels_last":
        return layer
    if isinstance(layer, keras.layers.EinsumDense) and _is_product(layer):
        return layer
    raise ValueError(
        f"{kernel.path} is no kernel of a Dense layer, of a Conv2D layer without groups, or of an EinsumDense layer as "
        "in MultiHeadAttention, so its inputs are not known: leave it dense with exclude=[layer]."
    )


def _num_input_axes(layer, kernel):
    """Return how many axes of a kernel, the first ones, are those of inputs."""
    if isinstance(layer, keras.layers.EinsumDense):
        return sum(letter not in layer.equation.partition("->")[2] for letter in _letters(layer)[1])
    return len(kernel.shape) - 1


def _is_product(layer):
    """Return whether an EinsumDense multiplies the last axes of its inputs with a matrix; each output has its bias."""
    (inputs, kernel), outputs = _letters(layer), layer.equation.partition("->")[2]
    own = "".join(letter for letter in kernel if letter in outputs)
    summed = kernel.removesuffix(own)
    is_product = bool(summed) and not set(summed) & set(outputs) and inputs.endswith(summed)
    num_outputs = math.prod(layer.kernel.shape[len(summed) :])
    has_own_biases = layer.bias is None or math.prod(layer.bias.shape) == num_outputs
    return is_product and has_own_biases and outputs == inputs.removesuffix(summed) + own


def _letters(layer):
    """Return the axes of the inputs and of the kernel in the equation of an EinsumDense."""
    inputs, _, kernel = layer.equation.partition("->")[0].partition(",")
    return inputs, kernel


def _recording(layer, inputs):
    """Return the layer's `call`, which also appends its inputs to a list."""
    call = layer.call

    def recording_call(x, *args, **kwargs):
        inputs.append(x)
        return call(x, *args, **kwargs)

    return recording_call


def _patches(layer, x):
    """Return what the kernel of a layer is multiplied with, one row for each of its outputs' positions."""
    if isinstance(layer, keras.layers.Conv2D):
        options = {"strides": layer.strides, "dilation_rate": layer.dilation_rate, "padding": layer.padding}
        x = ops.image.extract_patches(x, layer.kernel_size, **options)
        return ops.reshape(ops.cast(x, "float32"), (-1, x.shape[-1]))
    num_inputs = math.prod(layer.kernel.shape[: _num_input_axes(layer, layer.kernel)])
    return ops.reshape(ops.cast(x, "float32"), (-1, num_inputs))


def _rows_of(array, rows):
    return array if array is None or rows is None else ops.take(array, rows, axis=0)


def _inputs(model):
    """Return the symbolic inputs of a model as its call takes them; None if it has no graph."""
    graph = keras_internals.graph(model)
    return None if graph is None else graph.input


def _check_inputs(model, x):
    """Refuse inputs of another shape than the model expects."""
    inputs = _inputs(model)
    if x is None or inputs is None:
        return
    expected, given = ([tuple(a.shape) for a in tree.flatten(nest)] for nest in (inputs, x))
    fits = len(given) == len(expected) and all(map(_fits, given, expected))
    if not fits:
        raise ValueError(
            f"data has inputs of shape {', '.join(map(str, given))}, and model {model.name!r} expects "
            f"{', '.join(map(str, expected))}: pass a batch like those of training, data=(x, y)."
        )


def _fits(given, expected):
    return len(given) == len(expected) and all(e in (None, g) for g, e in zip(given, expected, strict=True))
