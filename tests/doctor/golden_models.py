"""The models whose diagnoses are written down."""

import functools

import keras
import numpy as np

import tfsparse

layers = keras.layers


def images(size=64):
    return np.random.default_rng(0).normal(size=(size, 64)).astype("float32")


def network():
    """Large enough that blocks make two layers faster, small enough for a test; no unit of it is ever dead."""
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(256, activation="tanh", name=name) for name in ("first", "second")]
    return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10, name="logits")], name="net")


def trained(model, epochs):
    labels = np.random.default_rng(1).integers(0, 10, 64)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(), labels, batch_size=16, epochs=epochs, verbose=0)
    return model


@functools.cache
def _weights():
    return trained(network(), epochs=10).get_weights()


def dense():
    """Trained as anybody would."""
    model = network()
    model.set_weights(_weights())
    return model


def pruned(granularity="weight", sparsity=0.9):
    model = dense()
    tfsparse.prune(model, sparsity, pruner=tfsparse.Magnitude(granularity, "layer"))
    return model


def leaked():
    """A step of Adam after the last mask: what a file holds if the mask waits for the next forward pass."""
    model = pruned()
    labels = np.random.default_rng(1).integers(0, 10, 64)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(images(), labels)
    return model


def slimmed():
    return tfsparse.slim(dense(), flops=0.5, multiple=8)


def int8(folder):
    path = folder / "pruned.tflite"
    tfsparse.export_tflite(pruned((1, 4)), path, values="int8", representative=images())
    return path


MODELS = {
    "dense": dense,
    "unstructured": pruned,
    "blocks": lambda: pruned((1, 4)),
    "leaked": leaked,
    "slimmed": slimmed,
}
