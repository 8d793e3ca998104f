"""From a trained model to the plain model that `export` writes: without wrappers, its pruned weights zero."""

import importlib
import warnings
from collections.abc import Callable

import keras

from tfsparse import methods
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


def _plain_keras_model(model):
    """Return a Keras 3 model without masked layers."""
    if broken := compiled_model.broken_masks(model):
        name, count = next(iter(broken.items()))
        is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        raise ValueError(
            f"{name} is not zero where its mask is zero, in {count:,} entries: the weights were changed after "
            "pruning, for example restored from an earlier epoch by EarlyStopping. Call model.optimizer"
            f"{'.inner_optimizer' * is_scaled}.apply_masks() to set them to zero, or export the last epoch's model."
        )
    if sentence := methods.unfinished(model):
        warnings.warn(f"{sentence} It is exported as it is.", stacklevel=2)
    return masked_layer.plain_model(model) if masked_layer.masked_layers(model) else model


register_plain_model(keras.Model, _plain_keras_model)
