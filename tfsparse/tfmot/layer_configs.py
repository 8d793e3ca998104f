"""One layer or operation of a Keras as the same one of the other Keras, without its weights."""

import functools
import inspect
import operator

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
_IMPLIED = {"rms_scaling": False, "data_format": "channels_last"}  # defaults that no signature shows
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
    cls = _exported(type(layer), source.layers, target.layers)
    config = layer.get_config()
    if inner is not None:
        config.pop("layer")
    config = _config(config, type(layer), cls, source, target, layer)
    if inner is not None:
        return cls(inner, **config)
    # from_config for layers of layers only: MultiHeadAttention's in tf_keras wants to be told the shapes of its inputs
    return cls.from_config(config) if config.keys() & {"layer", "cell", "cells"} else cls(**config)


def operation(op):
    """The function of the other Keras that computes what an operation in a graph does; None if it is not known."""
    if isinstance(op, keras.Operation):
        return _tf_functions().get(type(op))
    return _KERAS_OPS.get(getattr(op, "symbol", None))


def call_operation(function, args, kwargs):
    """Call what `operation` gave: functions agree on the order of arguments, and on the names of `axis` and
    `keepdims` only."""
    named = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims")}
    return function(*args, *(v for k, v in kwargs.items() if k not in named and k != "name"), **named)


def own_weights(layer) -> list:
    """The weights of a layer in an order that no freezing changes: its own, then those of the layers in it."""
    children = list(layer._flatten_layers(include_self=False, recursive=False))
    inner = [w for child in children for w in own_weights(child)]
    outer = [w for w in layer.weights if all(w is not i for i in inner)]
    return list({id(w): w for w in outer + inner}.values())


def fit(weights, variables) -> bool:
    """Equal shapes and names; DepthwiseConv2D has a `depthwise_kernel` in tf_keras and a `kernel` in Keras 3."""
    if [tuple(w.shape) for w in weights] != [tuple(v.shape) for v in variables]:
        return False
    names = [[v.name.split("/")[-1].split(":")[0] for v in own] for own in (weights, variables)]
    return all(a.endswith(b) or b.endswith(a) for a, b in zip(*names, strict=True))


def exchanged(structure, tensors):
    """The same structure with the new tensors, and with arrays for constants."""

    def exchange(value):
        if id(value) in tensors:
            return tensors[id(value)]
        return value.numpy() if isinstance(value, tf.Tensor) else value

    return keras.tree.map_structure(exchange, structure)


def given(node):
    """The keywords of a call in Keras 3, without those that Keras 3 fills in: the masks that the inputs carry, and
    `training`, which it overrules anyway whenever a model is trained or used."""
    carried = [getattr(t, "_keras_mask", None) for t in node.arguments.keras_tensors]
    carried = {id(mask) for mask in [None, *carried]}

    def filled_in(name, value):
        masks = keras.tree.flatten(value)
        return name == "training" or (name.endswith("mask") and all(id(m) in carried for m in masks))

    return {k: v for k, v in node.arguments.kwargs.items() if not filled_in(k, v)}


def _exported(cls, source, target):
    """The class of the same name in the other Keras, of the module `layers`, `initializers`, ... of both."""
    name = cls.__name__
    if getattr(source, name, None) is not cls:
        raise ValueError(f"{name} is not a class of {source.__name__}")
    if name in _OPAQUE:
        raise ValueError(_OPAQUE[name])
    if not hasattr(target, name):
        raise ValueError(f"{target.__name__} has no {name}")
    return getattr(target, name)


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
        elif key not in _IRRELEVANT and value not in (_plain(defaults.get(key)), _IMPLIED.get(key)):
            raise ValueError(f"{key}={value!r} does not exist in {target.__name__}")
        if key.endswith("activation") and value is not None:
            own = getattr(layer, key, None)
            _check_same(value, own if callable(own) else source.activations.get(config[key]), target)
    return _settled(result)


def new_name(name: str) -> str:
    """The same name as Keras 3 allows it."""
    return name.replace("/", "_")


def _settled(config):
    """Forms of the same that both take."""
    if "name" in config:
        config["name"] = new_name(config["name"])
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
    if issubclass(cls, tf_keras.layers.RNN):
        found["zero_output_for_mask"] = False  # the other one that no signature shows
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        found = {p.name: p.default for p in parameters} | found
        if base.__name__ == "Layer" or all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _value(value, source, target):
    """A value of a configuration, with the layers, initializers, regularizers and constraints in it."""
    value = _plain(value)
    if isinstance(value, list):
        return [_value(v, source, target) for v in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    room = value.get("module", "keras.layers").removeprefix("keras.")
    cls = getattr(getattr(source, room, None), value["class_name"], None)
    if cls is None:
        return value
    counter = _exported(cls, getattr(source, room), getattr(target, room))
    inner = _config(value["config"], cls, counter, source, target)
    return {"module": f"keras.{room}", "class_name": cls.__name__, "config": inner, "registered_name": None}


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


_PAIRS = [  # arguments, tf_keras' name for a function of TensorFlow, Keras 3
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
    """`{class of a Keras 3 operation: function}`."""
    x = keras.KerasTensor((2, 2))
    found = {type(op(*[x] * n)._keras_history.operation): operator.attrgetter(name)(tf) for n, name, op in _PAIRS}
    return found | {type(x[0]._keras_history.operation): lambda x, keys: x[keys]}
