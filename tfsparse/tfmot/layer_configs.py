"""One layer or operation of a Keras as the same one of the other Keras, without its weights."""

import functools
import inspect

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras import ops

_RENAMED = {"alpha": "negative_slope", "negative_slope": "alpha"}  # LeakyReLU
# says nothing about outputs: shapes that the graph knows, ways to compute the same, randomness, and what SeparableConv
# inherits and does not use
_IRRELEVANT = {
    *("batch_input_shape", "input_length", "query_shape", "key_shape", "value_shape", "implementation", "trainable"),
    *("seed", "rng_type", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
}
_OPAQUE = {
    "Lambda": "its Python function is written for one Keras; write a layer, or operations such as keras.ops.add",
    "StringLookup": "its vocabulary is not among its weights; apply it to the data instead",
    "IntegerLookup": "its vocabulary is not among its weights; apply it to the data instead",
    "TextVectorization": "its vocabulary is not among its weights; apply it to the data instead",
    "Discretization": "its boundaries are not among its weights; apply it to the data instead",
}


def counterpart(layer, source, target, inner=None):
    """The layer of `target` (keras or tf_keras) that is configured as `layer` of `source`.

    Args:
        inner: for a layer around a model, the model that is already converted.

    Raises: ValueError, also from Keras, that says why there is none.
    """
    cls = _exported(type(layer), source, target)
    config = layer.get_config()
    if inner is not None:
        config.pop("layer")
    config = _config(config, type(layer), cls, source, target, layer)
    return cls.from_config(config) if inner is None else cls(inner, **config)


def operation(op):
    """The function of the other Keras that computes what an operation in a graph does; None if it is not known."""
    if isinstance(op, keras.Operation):
        return _tf_functions().get(type(op))
    return _KERAS_OPS.get(getattr(op, "function", None))


def call_operation(function, args, kwargs):
    """Call what `operation` gave: functions agree on the order of arguments, and on the names of `axis` and
    `keepdims` only."""
    named = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims")}
    return function(*args, *(v for k, v in kwargs.items() if k not in named and k != "name"), **named)


def _exported(cls, source, target):
    name = cls.__name__
    if getattr(source.layers, name, None) is not cls:
        raise ValueError(f"it is not a layer of {source.__name__}.layers")
    if name in _OPAQUE:
        raise ValueError(_OPAQUE[name])
    if not hasattr(target.layers, name):
        raise ValueError(f"{target.__name__} has no such layer")
    return getattr(target.layers, name)


def _config(config, source_cls, target_cls, source, target, layer=None):
    """The arguments of `target_cls`; what it does not know may be left out where it is the default."""
    known, defaults = _arguments(target_cls), _arguments(source_cls)
    if "data_format" in known:
        config = {"data_format": getattr(layer, "data_format", None), **config}  # some tf_keras layers do not tell
    result = {}
    for key, value in config.items():
        value = _value(value, source, target)
        name = key if key in known else _RENAMED.get(key, key)
        if name in known:
            result[name] = value
        elif key not in _IRRELEVANT and value != _plain(defaults.get(key)):
            raise ValueError(f"{key}={value!r} does not exist in {target.__name__}")
        if key.endswith("activation") and value is not None:
            own = getattr(layer, key, None)
            _check_same(value, own if callable(own) else source.activations.get(config[key]), target)
    return _settled(result)


def _settled(config):
    """Forms of the same that both take."""
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = config["dtype"]["config"]["name"]
    axis = config.get("axis")
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        config["axis"] = axis[0]
    return config


@functools.cache
def _arguments(cls):
    """`{argument: default}` of a constructor, also of those that it passes the rest on to."""
    found = {"activity_regularizer": None}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        found = {p.name: p.default for p in parameters} | found
        if base.__name__ == "Layer" or all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _value(value, source, target):
    """A value of a configuration, with the layers in it."""
    value = _plain(value)
    if isinstance(value, list):
        return [_value(v, source, target) for v in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    cls = getattr(source.layers, value["class_name"], None)
    if cls is None or value.get("module", "keras.layers") != "keras.layers":
        return value
    counter = _exported(cls, source, target)
    inner = _config(value["config"], cls, counter, source, target)
    return {"module": "keras.layers", "class_name": cls.__name__, "config": inner, "registered_name": None}


def _plain(value):
    """Numbers, lists and dicts, without arrays and what tf_keras wraps lists and dicts in."""
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _check_same(name, function, target):
    """An activation of the same name may be another function: `hard_sigmoid` is."""
    values = tf.reshape(tf.linspace(-8.0, 8.0, 99), (3, 33))
    if not np.allclose(function(values), target.activations.get(name)(values), atol=1e-5):
        raise ValueError(f"{name!r} is another function in {target.__name__}")


def _slice(x, keys):
    """`x[keys]`, where tf_keras writes slices as dicts."""
    keys = keys if isinstance(keys, (list, tuple)) else [keys]
    return x[tuple(slice(*k.values()) if isinstance(k, dict) else k for k in keys)]


_PAIRS = [  # arguments, tf_keras, Keras 3
    *[(2, tf.__operators__.add, ops.add), (2, tf.math.subtract, ops.subtract), (2, tf.math.multiply, ops.multiply)],
    *[(2, tf.math.truediv, ops.true_divide), (2, tf.math.divide, ops.divide), (2, tf.math.pow, ops.power)],
    *[(2, tf.math.maximum, ops.maximum), (2, tf.math.minimum, ops.minimum), (1, tf.math.negative, ops.negative)],
    *[(1, tf.math.abs, ops.absolute), (1, tf.math.square, ops.square), (1, tf.math.sqrt, ops.sqrt)],
    *[(1, tf.math.exp, ops.exp), (1, tf.math.log, ops.log), (1, tf.math.tanh, ops.tanh)],
    *[(1, tf.math.sigmoid, ops.sigmoid), (1, tf.nn.relu, ops.relu), (1, tf.nn.relu6, ops.relu6)],
]
_KERAS_OPS = {ours: theirs for _, ours, theirs in _PAIRS} | {
    tf.math.add: ops.add,
    tf.math.reduce_mean: ops.mean,
    tf.math.reduce_sum: ops.sum,
    tf.math.reduce_max: ops.max,
    tf.concat: ops.concatenate,
    tf.reshape: ops.reshape,
    tf.transpose: ops.transpose,
    tf.expand_dims: ops.expand_dims,
    tf.cast: ops.cast,
    tf_keras.Input(1)[:, 0]._keras_history.layer.function: _slice,
}


@functools.cache
def _tf_functions() -> dict:
    """`{class of a Keras 3 operation: function}`."""
    x = keras.KerasTensor((2, 2))
    found = {type(op(*[x] * n)._keras_history.operation): function for n, function, op in _PAIRS}
    return found | {type(x[0]._keras_history.operation): lambda x, keys: x[keys]}
