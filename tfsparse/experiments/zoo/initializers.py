"""Initial weights of the small networks: those of Keras, or those of PyTorch, which some papers use.

    "keras"   Glorot-uniform kernels, orthogonal recurrent kernels, biases 0, those of forget gates 1
    "torch"   kernels and biases U(-b, b), b = 1 / sqrt(fan_in); recurrent layers: kernels b = 1 / sqrt(units), biases 0

Every call returns new initializers, because an initializer that is used twice gives the same numbers twice.
"""

import math

from keras.initializers import RandomUniform

_NAMES = ("keras", "torch")


def dense(initializer: str, fan_in: int) -> dict:
    """Return the initializers of a dense or convolutional layer.

    Args:
        initializer: "keras" or "torch".
        fan_in: Inputs of one unit, >= 1. For a convolution: kernel height x width x channels.

    Returns:
        Arguments of the layer.

    Raises:
        ValueError: If the name is unknown.

    Source:
        torch.nn.Linear and Conv2d, whose Kaiming-uniform with a = sqrt(5) is U(-b, b).

    Examples:
        >>> dense("torch", fan_in=400)["bias_initializer"].maxval
        0.05
    """
    _check(initializer)
    return _uniform(1 / math.sqrt(fan_in), "kernel", "bias") if initializer == "torch" else {}


def recurrent(initializer: str, units: int) -> dict:
    """Return the initializers of an LSTM.

    Args:
        initializer: "keras" or "torch".
        units: Units of the layer, >= 1.

    Returns:
        Arguments of the layer.

    Raises:
        ValueError: If the name is unknown.

    Source:
        Liu et al., "Dynamic Sparse Training" (ICLR 2020), its code. In torch.nn.LSTM the biases are random, too.

    Examples:
        >>> recurrent("torch", units=100)["recurrent_initializer"].maxval
        0.1
    """
    _check(initializer)
    if initializer == "keras":
        return {}
    return _uniform(1 / math.sqrt(units), "kernel", "recurrent") | {"unit_forget_bias": False}


def _uniform(bound, *weights):
    return {f"{weight}_initializer": RandomUniform(-bound, bound) for weight in weights}


def _check(initializer):
    if initializer not in _NAMES:
        raise ValueError(f'initializer={initializer!r} is unknown; write initializer="keras" or initializer="torch".')
