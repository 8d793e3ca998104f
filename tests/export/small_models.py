"""Models just large enough to be packed, pruned once, and examples of their inputs."""

import keras
import numpy as np
import tensorflow as tf

import tfsparse

layers = keras.layers


def plain():
    inputs = keras.Input((64,), name="pixels")
    x = layers.Dense(64, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def convolutions():
    """With BatchNormalization whose statistics are not the initial ones."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    x = layers.DepthwiseConv2D(3, activation="relu")(x)
    x = layers.Conv2DTranspose(32, 3)(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    random = np.random.default_rng(3)
    norm = model.get_layer("bn")
    norm.set_weights([random.uniform(0.5, 2, w.shape) for w in norm.get_weights()])
    return model


def nested_and_shared():
    """A model in a model, called twice; two inputs and two outputs in dicts."""
    inner = keras.Sequential([keras.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(64)])
    a, b = keras.Input((64,), name="a"), keras.Input((64,), name="b")
    left, right = inner(a), inner(b)
    outputs = {"sum": layers.Dense(2)(layers.add([left, right])), "left": left}
    return keras.Model({"a": a, "b": b}, outputs)


def recurrent():
    inputs = keras.Input((5, 16))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(32)(inputs)))


def words():
    """A table, which is neither a variable nor packed."""
    inputs = keras.Input((2,), dtype="string", name="words")
    x = layers.Embedding(5, 40)(layers.StringLookup(vocabulary=["a", "b", "c"])(inputs))
    return keras.Model(inputs, layers.Dense(64)(layers.Flatten()(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.logits = layers.Dense(64), layers.Dense(3)

    def call(self, x):
        return self.logits(self.hidden(x))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 64), "float32"))
    return model


MODELS = {f.__name__: f for f in (plain, convolutions, nested_and_shared, recurrent, words, subclassed)}


def pruned(name="plain", sparsity=0.9):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    tfsparse.prune(model, sparsity, tfsparse.Magnitude(scope="layer"))
    return model


def examples(name="plain"):
    random = np.random.default_rng(2)
    if name == "words":
        return tf.constant([["a", "c"], ["b", "unknown"]])
    if name == "nested_and_shared":
        return {key: random.normal(size=(3, 64)).astype("float32") for key in "ab"}
    shape = {"convolutions": (8, 8, 3), "recurrent": (5, 16)}.get(name, (64,))
    return random.normal(size=(3, *shape)).astype("float32")


def xla_modules(saved_model):
    """The nodes that call modules of JAX in the protobuf of a SavedModel."""
    functions = saved_model.meta_graphs[0].graph_def.library.function
    return [node for function in functions for node in function.node_def if node.op == "XlaCallModule"]
