"""Which functions and operations treat every entry alone, and which of them are nonlinearities."""

import keras
import numpy as np
from keras import layers, ops

from tfsparse.backend import keras_internals

_NOT_ELEMENTWISE = ("softmax", "log_softmax", "glu", "sparsemax")  # they read other channels too
_NOT_ACTIVATIONS = ("get", "serialize", "deserialize", "threshold")
_NAMES = [
    name
    for name, function in vars(keras.activations).items()
    if callable(function) and name not in (*_NOT_ELEMENTWISE, *_NOT_ACTIVATIONS)
]
_ELEMENTWISE = [vars(module)[name] for module in (keras.activations, ops) for name in _NAMES if name in vars(module)]
_BINARY = (ops.add, ops.subtract, ops.multiply, ops.divide, ops.true_divide, ops.maximum, ops.minimum, ops.power)
_UNARY = (ops.abs, ops.exp, ops.negative, ops.sign, ops.sqrt, ops.square, ops.rsqrt, ops.log1p)

NONLINEAR_LAYERS = (layers.ReLU, layers.LeakyReLU, layers.ELU)
MERGING_LAYERS = (layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)


def is_elementwise(activation) -> bool:
    """Return whether an activation function reads no other entry than its own."""
    return activation is None or any(activation is function for function in _ELEMENTWISE)


def is_linear(activation) -> bool:
    """Return whether an activation function returns its input."""
    return activation is None or activation is keras.activations.linear


def gives_zeros(function) -> bool:
    """Return whether a nonlinearity maps negative numbers to exactly zero, as ReLU does."""
    return not np.any(ops.convert_to_numpy(function(ops.full((1, 4), -1.0))))


def operations(functions, num_arguments: int = 1) -> tuple[type, ...]:
    """Return the classes of the operations that these functions put into a graph."""
    tensors = [keras.KerasTensor((None, 2))] * num_arguments
    return tuple(dict.fromkeys(type(keras_internals.operation_of(f(*tensors))) for f in functions))


def nonlinear_operations() -> tuple[type, ...]:
    """Return the classes of `keras.ops.relu` and of the other activation functions in `keras.ops`."""
    return operations(f for name in _NAMES if (f := vars(ops).get(name)))


def arithmetic_operations() -> tuple[type, ...]:
    """Return the classes of elementwise functions of one or two tensors that are not called activations."""
    return operations((*_UNARY, lambda x: ops.clip(x, 0, 1))) + operations(_BINARY, 2)
