"""Which weights of a tf_keras layer are pruned."""

import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper
from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

from tfsparse.backend import keras_internals


def name_prunable_weights(layer: tf_keras.layers.Layer) -> None:
    """Give a layer the method `get_prunable_weights`, which TFMOT needs, if it has none.

    For layers that TFMOT's registry knows it returns the registry's choice, for all others the trainable kernels of
    rank >= 2, also of layers inside.
    """
    if hasattr(layer, "get_prunable_weights"):
        return
    if PruneRegistry.supports(layer):
        PruneRegistry.make_prunable(layer)
    else:
        layer.get_prunable_weights = lambda: [w for w in layer.trainable_weights if is_kernel(w)]


def may_prune(layer: tf_keras.layers.Layer) -> bool:
    """Return whether a layer has weights to prune, or is not built yet and may get some."""
    name_prunable_weights(layer)
    return not layer.built or bool(layer.get_prunable_weights())


def check_tf_keras(model, instead: str = "model.fit(..., callbacks=[tfsparse.Prune(...)])") -> None:
    """Refuse what is no model of tf_keras.

    Args:
        model: What the user gave.
        instead: What to write for a model of Keras 3. Default: training with `tfsparse.Prune`.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(model, tf_keras.Model):
        raise ValueError(f"{model!r} is no model of tf_keras. Keras 3 models need no wrappers: {instead}.")


def is_graph(model) -> bool:
    """Return whether something is a model of tf_keras that is a graph of layers, which can be cloned."""
    if not isinstance(model, tf_keras.Model):
        return False
    return isinstance(model, tf_keras.Sequential) or keras_internals.is_functional(model)


def wrappers(model) -> list:
    """Return the pruning wrappers in a model and in models inside it, in the model's order and each once."""
    check_tf_keras(model)
    found = pruning_wrapper.collect_prunable_layers(model)
    return list({id(layer): layer for layer in found}.values())


def is_kernel(weight) -> bool:
    """Return whether a variable is a kernel of rank >= 2, by the name that Keras gives it."""
    name = weight.name.split("/")[-1].split(":")[0]
    return name.endswith("kernel") and len(weight.shape) >= 2
