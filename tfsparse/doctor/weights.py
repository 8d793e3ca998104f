"""The weights of a model or of a file: their values on Keras's axes, and the operation that computes with them."""

import dataclasses
import enum
import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.export import tflite_rules
from tfsparse.optimizers import masked_layer
from tfsparse.pruners import selection


class Operation(enum.Enum):
    """What computes with a weight. It decides which kernels there are."""

    DENSE = "Dense"
    POINTWISE = "1x1 convolutions"
    CONVOLUTION = "convolutions"
    DEPTHWISE = "depthwise convolutions"
    TRANSPOSED = "transposed convolutions"
    OTHER = "this layer"


_TFLITE_NAMES = {
    Operation.DENSE: "FULLY_CONNECTED",
    Operation.POINTWISE: "CONV_2D",
    Operation.CONVOLUTION: "CONV_2D",
    Operation.DEPTHWISE: "DEPTHWISE_CONV_2D",
    Operation.TRANSPOSED: "TRANSPOSE_CONV",
}
_OPERATIONS = {frozenset([name]): operation for operation, name in _TFLITE_NAMES.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """One weight.

    Args:
        name: Path of the variable, or name of the tensor.
        shape: Its shape in the model or the file.
        array: Its values, with outputs on the last axis and inputs on the one before it.
        operation: What computes with it.
        tensor: Its description in a TFLite file, a `Tensor` of `inspect_tflite`; None if it comes from a model.
        why_fixed: Reason why its number of channels cannot change; "" if it can.
        removable: Fraction of its channels that `tfsparse.shrink` removes; None if unknown.
        network_bytes: Bytes of all weights of its network when dense.
        is_frozen: Whether training leaves it as it is.
    """

    name: str
    shape: tuple[int, ...]
    array: np.ndarray
    operation: Operation
    tensor: object = None
    why_fixed: str = ""
    removable: float | None = None
    network_bytes: int = 0
    is_frozen: bool = False

    def tflite_array(self) -> np.ndarray:
        """Return the values on TFLite's axes, the compressed axis last: inputs, or channels of depthwise kernels."""
        if self.operation is Operation.DEPTHWISE:
            return self.array
        return np.moveaxis(self.array, -2 if self.operation is Operation.TRANSPOSED else -1, 0)

    def tflite_form(self) -> tflite_rules.Form:
        """Return the form in which `export_tflite` stores the weight: the dense one for an unknown operation."""
        array = self.tflite_array()
        operations = {_TFLITE_NAMES[self.operation]} if self.operation in _TFLITE_NAMES else set()
        max_scales = len(array) if array.dtype == "int8" else 0  # at most one for each output
        return tflite_rules.choose_form(array, operations, max_scales)


def of_model(model: keras.Model) -> list[tuple]:
    """Return pairs of a kernel, trained or frozen, and its `Weight`.

    Kernels with trainable thresholds are multiplied by their masks. Integers that Keras has quantised are left out.
    """
    if masked_layer.masked_layers(model):
        model = masked_layer.plain_model(model)
    operations = dict(_operations(model))
    kernels = [v for v in model.variables if selection.is_prunable(v) and keras.backend.is_float_dtype(v.dtype)]
    all_weights = [_of_variable(v, operations.get(id(v), Operation.OTHER)) for v in kernels]
    return list(zip(kernels, _with_network_bytes(all_weights), strict=True))


def of_file(content: bytes) -> list[Weight]:
    """Return the weights of rank >= 2 in a TFLite file."""
    from tfsparse.export import tflite_file  # not at the top: it imports TensorFlow

    pairs = zip(tflite_file.tensors(content), tflite_file.arrays(content), strict=True)
    return _with_network_bytes([_of_tensor(tensor, array) for tensor, array in pairs])


def of_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> list[Weight]:
    """Return the floats of rank >= 2 among named arrays. What computes with them is unknown."""
    shown = [(name, a) for name, a in arrays if a.ndim >= 2 and np.issubdtype(a.dtype, np.floating)]
    return _with_network_bytes([Weight(name, a.shape, a, Operation.OTHER) for name, a in shown])


def _with_network_bytes(weights):
    total = sum(weight.array.nbytes for weight in weights)
    return [dataclasses.replace(weight, network_bytes=total) for weight in weights]


def _of_variable(variable, operation):
    array, shape = ops.convert_to_numpy(variable), tuple(variable.shape)
    if operation is Operation.DEPTHWISE:
        array = array.reshape(1, *shape[:-2], math.prod(shape[-2:]))
    return Weight(variable.path, shape, array, operation, is_frozen=not variable.trainable)


def _operations(model):
    """Yield (id of the variable, operation) for all kernels of layers that are known."""
    for layer in keras_internals.all_layers(model):
        for kinds, operation in _LAYERS:
            if isinstance(layer, kinds):
                yield id(layer.kernel), Operation.POINTWISE if _is_pointwise(layer, operation) else operation
                break
        if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
            yield id(layer.depthwise_kernel), Operation.DEPTHWISE
            yield id(layer.pointwise_kernel), Operation.POINTWISE


_LAYERS = (
    (keras.layers.Dense, Operation.DENSE),
    ((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), Operation.DEPTHWISE),
    (keras.layers.Conv2DTranspose, Operation.TRANSPOSED),
    ((keras.layers.Conv1D, keras.layers.Conv2D), Operation.CONVOLUTION),
)


def _is_pointwise(layer, operation):
    """Return whether XNNPACK's sparse kernels could run a convolution: 1x1, without strides and groups."""
    return operation is Operation.CONVOLUTION and {*layer.kernel_size, *layer.strides, layer.groups} == {1}


def _of_tensor(tensor, array):
    operation = _OPERATIONS.get(frozenset(tensor.operations), Operation.OTHER)
    if operation is Operation.CONVOLUTION and set(array.shape[1:-1]) == {1}:
        operation = Operation.POINTWISE
    if operation is not Operation.DEPTHWISE:
        array = np.moveaxis(array, 0, -2 if operation is Operation.TRANSPOSED else -1)
    return Weight(tensor.name, tensor.shape, array, operation, tensor)
