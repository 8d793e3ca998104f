"""The smaller model: with the weights that stay, or with fresh ones."""

import contextlib
import random

import keras

from tfsparse.backend import replicas
from tfsparse.methods.activation_density import rules
from tfsparse.structured import Channels, importance, shrink


def chosen(graph: Channels, density, widths: dict[str, int]) -> dict[str, list[int]]:
    """Which channels of the groups stay: those of the highest density, ties by larger L1 norm."""
    groups = {group.name: group for group in graph.groups}
    kept = {n: rules.best(density.channels[n], importance.scores(groups[n], "l1"), w) for n, w in widths.items()}
    return {name: indices.tolist() for name, indices in kept.items()}


def smaller(model: keras.Model, keep: dict[str, list[int]]) -> keras.Model:
    """The model with only these channels of these groups, its weights and its optimizer's slots."""
    return shrink(model, keep=keep)


def fresh(model: keras.Model, optimizer: type, config: dict, seed) -> keras.Model:
    """A model of the same shapes with fresh weights and a fresh optimizer of this class and config. What is not
    trained, but for BatchNormalization's statistics, stays: frozen layers, `Normalization`.

    Args:
        seed: a number or a word; decides all weights whose initializer has none of its own.
    """
    with replicas.strategy_scope(model), _seeded(seed):
        new = keras.models.clone_model(model)
        _keep_untrained(model, new)
        new.compile(**model._compile_config.config | {"optimizer": optimizer.from_config(config)})
        new.optimizer.build(new.trainable_variables)
    return new


def _keep_untrained(model, new):
    for old, layer in zip(_leaves(model), _leaves(new), strict=True):
        starts_anew = layer.trainable and isinstance(layer, keras.layers.BatchNormalization)
        if layer.weights and not layer.trainable_variables and not starts_anew:
            layer.set_weights(old.get_weights())


def _leaves(model):
    return [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]


@contextlib.contextmanager
def _seeded(seed):
    """Keras draws the seeds of initializers and layers from Python's generator, whose state others rely on."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
