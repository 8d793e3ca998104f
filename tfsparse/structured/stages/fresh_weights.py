"""Fresh weights for a model that has become smaller."""

import contextlib
import random

import keras

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend.layer_copies import copy_layer


def reinitialized(model: keras.Model, optimizer: type, config: dict, seed) -> keras.Model:
    """Return a model of the same shapes with fresh weights and a fresh optimizer.

    Layers that are not trained, such as frozen layers and `Normalization`, keep their weights. BatchNormalization
    starts with fresh statistics.

    Args:
        model: A compiled model.
        optimizer: Class of the optimizer.
        config: Its config.
        seed: A number or a string, from which all weights follow whose initializer has no seed.

    Returns:
        The new model, compiled as `model` is.
    """
    with replicas.strategy_scope(model), _python_seed(seed):
        new = keras.models.clone_model(model, clone_function=copy_layer, recursive=True)
        _copy_untrained(model, new)
        new.compile(**keras_internals.compile_arguments(model) | {"optimizer": optimizer.from_config(config)})
        new.optimizer.build(new.trainable_variables)
    return new


def _copy_untrained(model, new):
    for old, layer in zip(_layers(model), _layers(new), strict=True):
        has_fresh_statistics = layer.trainable and isinstance(layer, keras.layers.BatchNormalization)
        if layer.weights and not layer.trainable_variables and not has_fresh_statistics:
            layer.set_weights(old.get_weights())


def _layers(model):
    return [layer for layer in keras_internals.all_layers(model) if not isinstance(layer, keras.Model)]


@contextlib.contextmanager
def _python_seed(seed):
    """Seed Python's generator, from which Keras takes the seeds of initializers and layers, and restore its state."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
