"""One layer or operation of a Keras as the same one of the other Keras, without its weights."""

import functools
import inspect
import operator

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras import ops

from tfsparse.backend import keras_internals

_RENAMED = {"alpha": "negative_slope", "negative_slope": "alpha"}  # LeakyReLU
_IRRELEVANT = {  # for the outputs
    *("batch_input_shape", "input_length", "query_shape", "key_shape", "value_shape"),  # the graph knows the shapes
    *("implementation", "trainable", "seed", "rng_type"),
    *("kernel_initializer", "kernel_regularizer", "kernel_constraint"),  # SeparableConv inherits and does not use them
}
_IMPLIED = {"rms_scaling": False, "data_format": "channels_last"}  # defaults that no signature shows
_LOST = {
    "Lambda": "its Python function is written for one Keras; write a layer, or operations such as keras.ops.add",
    "Discretization": "its boundaries are not among its weights; apply it to the data instead",
    **dict.fromkeys(
        ("StringLookup", "IntegerLookup", "TextVectorization"),
        "its vocabulary is not among its weights; apply it to the data instead",
    ),
}
_NESTED = {"layer", "cell", "cells"}  # arguments that are layers


def counterpart(layer, source, target, *inner):
    """Return the layer of the other Keras with the configuration of a layer.

    Args:
        layer: A layer of `source`.
        source: keras or tf_keras.
        target: The other one.
        *inner: For a layer around a model, the converted model.

    Raises:
        ValueError: If there is none. Keras may raise other errors.
    """
    cls = _same_class(type(layer), source.layers, target.layers)
    config = {k: v for k, v in layer.get_config().items() if not inner or k != "layer"}
    config = _config(config, type(layer), cls, source, target, layer)
    # from_config only where it is needed: for MultiHeadAttention of tf_keras it expects the shapes of the inputs
    return cls.from_config(config) if config.keys() & _NESTED else cls(*inner, **config)


def operation(op):
    """Return a function that takes the arguments of an operation and calls the other Keras's; None if there is none."""
    if isinstance(op, keras.Operation):
        function = _tf_functions().get(type(op))
    else:
        function = _KERAS_OPS.get(getattr(op, "symbol", None))

    def call(*args, **kwargs):
        # both agree on the order of arguments, but only on the names of these two
        named = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims")}
        result = function(*args, *(v for k, v in kwargs.items() if k not in named and k != "name"), **named)
        if not isinstance(op, keras.Operation):
            # Keras 3 numbers operations without regard to the names of layers
            keras_internals.operation_of(result).name = new_name(op.name)
        return result

    return function and call


def new_name(name: str) -> str:
    """Return a name as Keras 3 allows it."""
    return name.replace("/", "_")


def _same_class(cls, source, target):
    """Return the class of this name in the other Keras; `source` and `target` are submodules, such as `layers`."""
    name = cls.__name__
    if getattr(source, name, None) is not cls:
        raise ValueError(f"{name} is not a class of {source.__name__}")
    if name in _LOST:
        raise ValueError(_LOST[name])
    if not hasattr(target, name):
        raise ValueError(f"{target.__name__} has no {name}")
    return getattr(target, name)


def _config(config, source_cls, target_cls, source, target, layer=None):
    """Return the arguments of `target_cls`. Arguments that it does not have may be left out at their defaults."""
    known, defaults, result = _arguments(target_cls), _arguments(source_cls), {}
    if "data_format" in known:
        config = {"data_format": getattr(layer, "data_format", None), **config}  # some configs of tf_keras lack it
    for key, value in config.items():
        value = _value(value, source, target)
        name = key if key in known else _RENAMED.get(key, key)
        if name in known:
            result[name] = value
        elif key not in _IRRELEVANT and value not in (_plain(defaults.get(key)), _IMPLIED.get(key)):
            raise ValueError(f"{key}={value!r} does not exist in {target.__name__}")
        if key.endswith("activation") and value is not None:
            own = getattr(layer, key, None)
            _check_same_function(value, own if callable(own) else source.activations.get(config[key]), target)
    if "name" in result:
        result["name"] = new_name(result["name"])
    if isinstance(result.get("dtype"), dict):
        result["dtype"] = result["dtype"]["config"]["name"]
    if isinstance(result.get("axis"), list) and len(result["axis"]) == 1:
        result["axis"] = result["axis"][0]
    return result


@functools.cache
def _arguments(cls):
    """Return {argument: default} of a constructor, with those of the constructors that it passes **kwargs to."""
    found = {"activity_regularizer": None}  # this and the next are in no signature
    if issubclass(cls, tf_keras.layers.RNN):
        found["zero_output_for_mask"] = False
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        found = {p.name: p.default for p in parameters} | found
        if base.__name__ == "Layer" or all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _value(value, source, target):
    """Return a value of a configuration, with the layers, initializers and regularizers in it converted."""
    value = _plain(value)
    if isinstance(value, list):
        return [_value(v, source, target) for v in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    submodule = value.get("module", "keras.layers").removeprefix("keras.")
    cls = getattr(getattr(source, submodule, None), value["class_name"], None)
    if cls is None:
        return value
    new_cls = _same_class(cls, getattr(source, submodule), getattr(target, submodule))
    config = _config(value["config"], cls, new_cls, source, target)
    return {"module": f"keras.{submodule}", "class_name": cls.__name__, "config": config, "registered_name": None}


def _plain(value):
    """Return numbers, lists and dicts in place of arrays and of the containers of tf_keras."""
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _check_same_function(name, function, target):
    """Refuse an activation that is another function under the same name, as `hard_sigmoid` is."""
    values = tf.reshape(tf.linspace(-8.0, 8.0, 99), (3, 33))
    if not np.allclose(function(values), target.activations.get(name)(values), atol=1e-5):
        raise ValueError(f"{name!r} is another function in {target.__name__}")


def _slice(x, keys):
    """Return `x[keys]`; tf_keras writes slices as dicts."""
    keys = keys if isinstance(keys, (list, tuple)) else [keys]
    return x[tuple(slice(*k.values()) if isinstance(k, dict) else k for k in keys)]


_PAIRS = [  # number of arguments, tf_keras' name for a function of TensorFlow, Keras 3
    *[(2, "__operators__.add", ops.add), (2, "math.subtract", ops.subtract), (2, "math.multiply", ops.multiply)],
    *[(2, "math.truediv", ops.true_divide), (2, "math.divide", ops.divide), (2, "math.pow", ops.power)],
    *[(2, "math.maximum", ops.maximum), (2, "math.minimum", ops.minimum), (1, "math.negative", ops.negative)],
    *[(1, "math.abs", ops.absolute), (1, "math.square", ops.square), (1, "math.sqrt", ops.sqrt)],
    *[(1, "math.exp", ops.exp), (1, "math.log", ops.log), (1, "math.tanh", ops.tanh)],
    *[(1, "math.sigmoid", ops.sigmoid), (1, "nn.relu", ops.relu), (1, "nn.relu6", ops.relu6)],
]
_KERAS_OPS = {name: op for _, name, op in _PAIRS} | {
    "math.add": ops.add,
    "math.reduce_mean": ops.mean,
    "math.reduce_sum": ops.sum,
    "math.reduce_max": ops.max,
    "concat": ops.concatenate,
    "reshape": ops.reshape,
    "compat.v1.transpose": lambda x, axes=None, *_: ops.transpose(x, axes),
    "expand_dims": ops.expand_dims,
    "cast": ops.cast,
    "__operators__.getitem": _slice,
}


@functools.cache
def _tf_functions() -> dict:
    """Return {class of a Keras 3 operation: function of TensorFlow}."""
    x, op_class = keras.KerasTensor((2, 2)), lambda result: type(keras_internals.operation_of(result))
    functions = {op_class(op(*[x] * number)): operator.attrgetter(name)(tf) for number, name, op in _PAIRS}
    return functions | {op_class(x[0]): lambda x, keys: x[keys]}
