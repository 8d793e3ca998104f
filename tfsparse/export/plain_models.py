"""From a trained model to the plain model that `export` writes: without wrappers, its pruned weights zero."""

import importlib
from collections.abc import Callable

import keras
from keras import ops

from tfsparse.optimizers import compiled_model, masked_layer

_CONVERTERS: list[tuple[type, Callable]] = []
# Modules that register a converter when they are imported, by the package of the model's class. tfsparse.tfmot stands
# above this room, and its import changes what tf.keras means, so it is imported only for a model of tf_keras.
_MODULES = {"tf_keras": "tfsparse.tfmot.plain_models"}


def register_plain_model(model_type: type, convert: Callable) -> None:
    """Make `export`, `export_tflite` and `sizes` accept another type of model.

    Args:
        model_type: Class of the models. The class registered last is tried first.
        convert: Function that takes such a model and returns a model without wrappers, whose pruned weights are zero.
            `export(path)` of what it returns must write a SavedModel.

    Examples:
        >>> register_plain_model(Ensemble, lambda ensemble: ensemble.average())
    """
    _CONVERTERS.insert(0, (model_type, convert))


def plain_model(model):
    """Return the plain model of a model whose type is registered.

    Raises:
        ValueError: If its type is not registered, or if pruned weights are not zero.
    """
    for cls in type(model).__mro__:
        if module := _MODULES.get(cls.__module__.partition(".")[0]):
            importlib.import_module(module)
    for model_type, convert in _CONVERTERS:
        if isinstance(model, model_type):
            return convert(model)
    raise ValueError(f"Cannot export {model!r}: expected a Keras 3 model, a tf_keras model, or a SavedModel directory.")


def variables_off_mask(model: keras.Model) -> list:
    """Return the pruned variables of a Keras 3 model that are not zero where their masks are zero.

    They were changed after pruning, for example restored from an earlier epoch.
    """
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return []
    pairs = zip(optimizer.pruned_variables, optimizer.masks, strict=True)
    return [v for v, mask in pairs if bool(ops.any(ops.logical_and(mask == 0, v != 0)))]


def _plain_keras_model(model):
    """Return a Keras 3 model without masked layers."""
    for variable in variables_off_mask(model):
        raise ValueError(
            f"{variable.path} is not zero where its mask is zero: the weights were changed after pruning, for example "
            "restored from an earlier epoch by EarlyStopping. Call model.optimizer.apply_masks() to set them to zero, "
            "or export the model of the last epoch."
        )
    return masked_layer.plain_model(model) if masked_layer.masked_layers(model) else model


register_plain_model(keras.Model, _plain_keras_model)
