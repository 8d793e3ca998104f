"""BatchNormalization after weights were cut: its statistics are measured again."""

import contextlib
import itertools
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import keras_internals, variables
from tfsparse.optimizers.compiled_model import check_keras3

_BATCH_SIZE = 128  # of arrays
_DROPOUT = ("Dropout", "AlphaDropout", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")


def recalibrate(model: keras.Model, data, batches: int = 100) -> None:
    """Measure the statistics of all BatchNormalization layers again, in place.

        moving_mean     = mean over batches of the batch's mean
        moving_variance = mean over batches of the batch's variance

    A cut changes the activations, and the statistics are still those of before. Training corrects them slowly, by an
    exponential average; this does it at once and without training. It costs one forward pass for each batch. Every
    layer normalizes with the statistics of the batch while it is measured. Dropout is off. All other variables keep
    their values. All replicas get the statistics of the whole batches.

    Args:
        model: A built model with BatchNormalization.
        data: Inputs of training, augmented as in training: others have other statistics, and accuracy may fall. A
            dataset of batches, of `x` or `(x, y)`; or arrays, `x` or a tuple `(x, y)`, split into batches of 128.
        batches: Number of batches to use at most, >= 1. Default: 100.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model has no BatchNormalization, or `data` has no batch.

    Source:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018), section 3.2.

    Examples:
        >>> tfsparse.prune(model, 0.8)
        >>> tfsparse.recalibrate(model, train_data)
    """
    check_keras3(model, "tfsparse.recalibrate(tfsparse.tfmot.to_keras3(model), data)")
    layers = batch_normalizations(model)
    if not layers:
        raise ValueError(f"Model {model.name!r} has no BatchNormalization, so there are no statistics to measure.")
    if isinstance(batches, bool) or batches < 1 or batches != int(batches):
        raise ValueError(f"batches={batches!r}: expected a whole number of at least 1, for example batches=100.")
    inputs = None
    with _only_statistics_change(model, layers), _without_dropout(model), _means_of_all_calls(layers):
        for inputs in itertools.islice(_batches(data), int(batches)):
            model(inputs, training=True)
    if inputs is None:
        raise ValueError("data has no batch: expected at least one, for example data=train_data.take(100).")


def batch_normalizations(model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNormalization layers of a model, at any depth."""
    return [x for x in keras_internals.all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


def _batches(data) -> Iterable:
    if isinstance(data, (np.ndarray, tuple)) or ops.is_tensor(data):
        arrays = data[0] if isinstance(data, tuple) else data
        for i in range(0, len(tree.flatten(arrays)[0]), _BATCH_SIZE):
            yield tree.map_structure(lambda array, i=i: array[i : i + _BATCH_SIZE], arrays)
    else:
        for batch in data:
            yield batch[0] if isinstance(batch, tuple) else batch


def _means_of_all_calls(layers):
    """Make the moving average of each layer the mean of all its calls. A layer may be called twice for one batch."""
    return keras_internals.replaced([(layer, "call", _averaging(layer)) for layer in layers])


def _averaging(layer):
    call, numbers = layer.call, itertools.count(1)

    def averaging_call(*args, **kwargs):
        layer.momentum = 1 - 1 / next(numbers)
        return call(*args, **kwargs)

    return averaging_call


@contextlib.contextmanager
def _only_statistics_change(model, layers):
    """Put back momenta, the state of layers, and all variables but the statistics of `layers`."""
    momenta, trainable = [x.momentum for x in layers], [x.trainable for x in layers]
    statistics = {id(v) for x in layers for v in (x.moving_mean, x.moving_variance)}
    try:
        for layer in layers:
            layer.trainable = True  # a frozen layer would normalize with its moving statistics
        with variables.restored([v for v in model.variables if id(v) not in statistics]):
            yield
    finally:
        for layer, momentum, is_trained in zip(layers, momenta, trainable, strict=True):
            layer.momentum, layer.trainable = momentum, is_trained


@contextlib.contextmanager
def _without_dropout(model):
    """Switch Dropout off."""
    kinds = tuple(getattr(keras.layers, name) for name in _DROPOUT)
    check_keras3(model, "tfsparse.recalibrate(tfsparse.tfmot.to_keras3(model), data)")
    layers = [x for x in keras_internals.all_layers(model) if isinstance(x, kinds)]
    rates = [x.rate for x in layers]
    try:
        for layer in layers:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
