"""The weights of a model or of a file: what computes with each, its entries on Keras's axes."""

import dataclasses
import enum
import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from tfsparse.optimizers import masked_layer
from tfsparse.pruners import selection


class Use(enum.Enum):
    """What computes with a weight: that decides which kernels there are."""

    DENSE = "Dense"
    POINTWISE = "1x1 convolutions"
    CONVOLUTION = "convolutions"
    DEPTHWISE = "depthwise convolutions"
    TRANSPOSED = "transposed convolutions"
    OTHER = "this layer"


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """One weight: outputs on the last axis, inputs on the one before it.

    shape: as the model or the file has it. stored: how a TFLite file holds it (a `Tensor` of `inspect_tflite`), None if
    it comes from a model. fixed: why its number of channels must stay, "" if it need not. idle: the share of channels
    that `tfsparse.shrink` removes, None if nobody has looked. network: bytes of all weights of its network when dense.
    """

    name: str
    shape: tuple[int, ...]
    array: np.ndarray
    use: Use
    stored: object = None
    fixed: str = ""
    idle: float | None = None
    network: int = 0


def of_model(model: keras.Model) -> list[tuple]:
    """Pairs of a kernel of the model and its weight; of trainable thresholds what the layers compute with."""
    if masked_layer.masked_layers(model):
        model = masked_layer.plain_model(model)
    uses = dict(_uses(model))
    shown = [v for v in model.trainable_variables if selection.is_prunable(v)]
    found = [_of_variable(v, uses.get(id(v), Use.OTHER)) for v in shown]
    return list(zip(shown, _beside_each_other(found), strict=True))


def of_file(content: bytes) -> list[Weight]:
    """The weights of a TFLite file, of rank 2 and more."""
    from tfsparse.export import tflite_file  # late: it imports TensorFlow

    rows = zip(tflite_file.tensors(content), tflite_file.arrays(content), strict=True)
    return _beside_each_other([_of_tensor(tensor, array) for tensor, array in rows])


def of_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> list[Weight]:
    """Arrays by name, of which nobody knows what computes with them; floats of rank 2 and more."""
    shown = [(name, a) for name, a in arrays if a.ndim >= 2 and np.issubdtype(a.dtype, np.floating)]
    return _beside_each_other([Weight(name, a.shape, a, Use.OTHER) for name, a in shown])


def _beside_each_other(weights):
    total = sum(weight.array.nbytes for weight in weights)
    return [dataclasses.replace(weight, network=total) for weight in weights]


def to_tflite(weight: Weight) -> np.ndarray:
    """The array on TFLite's axes: what is compressed stands last, inputs, or channels of depthwise kernels."""
    if weight.use is Use.TRANSPOSED:
        return np.moveaxis(weight.array, -2, 0)
    return weight.array if weight.use is Use.DEPTHWISE else np.moveaxis(weight.array, -1, 0)


def _of_variable(variable, use):
    array = ops.convert_to_numpy(variable)
    shape = tuple(variable.shape)
    if use is Use.DEPTHWISE:
        array = array.reshape(1, *shape[:-2], math.prod(shape[-2:]))
    return Weight(variable.path, shape, array, use)


def _uses(model):
    """(id of variable, use) of all kernels whose layers are known."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for kind, use in _LAYERS:
            if isinstance(layer, kind):
                yield id(layer.kernel), Use.POINTWISE if _is_pointwise(layer, use) else use
                break
        if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
            yield id(layer.depthwise_kernel), Use.DEPTHWISE
            yield id(layer.pointwise_kernel), Use.POINTWISE


_LAYERS = (
    (keras.layers.Dense, Use.DENSE),
    ((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), Use.DEPTHWISE),
    (keras.layers.Conv2DTranspose, Use.TRANSPOSED),
    ((keras.layers.Conv1D, keras.layers.Conv2D), Use.CONVOLUTION),
)


def _is_pointwise(layer, use):
    """As XNNPACK's sparse kernels ask for: 1x1, without strides and groups."""
    sides = (*layer.kernel_size, *layer.strides, layer.groups) if use is Use.CONVOLUTION else (0,)
    return set(sides) == {1}


def _of_tensor(tensor, array):
    use = _USES.get(frozenset(tensor.operations), Use.OTHER)
    if use is Use.CONVOLUTION and set(array.shape[1:-1]) == {1}:
        use = Use.POINTWISE
    if use is Use.TRANSPOSED:
        array = np.moveaxis(array, 0, -2)
    elif use is not Use.DEPTHWISE:
        array = np.moveaxis(array, 0, -1)
    return Weight(tensor.name, tensor.shape, array, use, stored=tensor)


_USES = {
    frozenset({"FULLY_CONNECTED"}): Use.DENSE,
    frozenset({"CONV_2D"}): Use.CONVOLUTION,
    frozenset({"DEPTHWISE_CONV_2D"}): Use.DEPTHWISE,
    frozenset({"TRANSPOSE_CONV"}): Use.TRANSPOSED,
}
