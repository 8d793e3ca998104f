"""The plain model that `tfsparse.export` writes of a tf_keras model."""

import warnings

import tf_keras

from tfsparse import methods
from tfsparse.export.plain_models import register_plain_model
from tfsparse.optimizers import masked_layer
from tfsparse.tfmot import kernels
from tfsparse.tfmot.prune import strip_pruning


def plain_model(model: tf_keras.Model) -> tf_keras.Model:
    """Return the model without pruning wrappers and masked layers, its weights multiplied by their masks.

    Raises:
        ValueError: If it is a subclassed model with wrappers.
    """
    if masked_layer.masked_layers(model):
        if sentence := methods.unfinished(model):
            warnings.warn(f"{sentence} It is exported as it is.", stacklevel=2)
        from tfsparse.tfmot.methods.dst import finalize  # without this method there are no masked layers

        return finalize(model)
    if not kernels.wrappers(model):
        return model
    if not kernels.is_graph(model):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose wrappers are removed in place. Do "
            "that first: model = tfsparse.tfmot.strip_pruning(model)."
        )
    return strip_pruning(model)


register_plain_model(tf_keras.Model, plain_model)
