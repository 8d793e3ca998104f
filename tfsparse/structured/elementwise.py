"""Which functions and operations act on every entry by itself, and which of them are nonlinearities."""

import keras
import numpy as np
from keras import layers, ops

_MIXING = ("softmax", "log_softmax", "glu", "sparsemax")  # they look at the other channels too
_NAMES = [
    n
    for n, f in vars(keras.activations).items()
    if callable(f) and n not in (*_MIXING, "get", "serialize", "deserialize", "threshold")
]
_ELEMENTWISE = [vars(room)[name] for room in (keras.activations, ops) for name in _NAMES if name in vars(room)]
_ARITHMETIC = (ops.add, ops.subtract, ops.multiply, ops.divide, ops.true_divide, ops.maximum, ops.minimum, ops.power)
_UNARY = (
    ops.abs,
    ops.exp,
    ops.negative,
    ops.sign,
    ops.sqrt,
    ops.square,
    ops.rsqrt,
    ops.log1p,
    lambda x: ops.clip(x, 0, 1),
)


def is_elementwise(activation) -> bool:
    """Is this an activation function that sees one entry only?"""
    return activation is None or any(activation is function for function in _ELEMENTWISE)


def is_linear(activation) -> bool:
    """Does the function hand on what it gets?"""
    return activation is None or activation is keras.activations.linear


def gives_zeros(function) -> bool:
    """Does a nonlinearity make exact zeros of negative numbers, as ReLU does?"""
    return not np.any(ops.convert_to_numpy(function(ops.full((1, 4), -1.0))))


def operations(functions, arguments: int = 1) -> tuple[type, ...]:
    """The classes of the operations that these functions put into a graph: Keras does not name them in public."""
    tensors = [keras.KerasTensor((None, 2))] * arguments
    return tuple(dict.fromkeys(type(f(*tensors)._keras_history.operation) for f in functions))


def nonlinear_operations() -> tuple[type, ...]:
    """`keras.ops.relu` and its like."""
    return operations(f for name in _NAMES if (f := vars(ops).get(name)))


def arithmetic_operations() -> tuple[type, ...]:
    """Elementwise functions of one and of two tensors that are not called activations."""
    return operations(_UNARY) + operations(_ARITHMETIC, 2)


NONLINEAR_LAYERS = (layers.ReLU, layers.LeakyReLU, layers.ELU)
MERGING_LAYERS = (layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
