"""Layers that hold masks of their own, and plain models made of models with such layers."""

import abc

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.layer_copies import copy_or_share


class MaskedLayer(abc.ABC):
    """A wrapper that computes with `kernel * mask` while its kernels stay dense.

    `report`, `export` and `doctor` recognise such layers by this class and know nothing of the method behind it.

    Attributes:
        layer: The plain layer inside.
    """

    @property
    @abc.abstractmethod
    def kernels(self) -> list:
        """The kernels of the layer inside, in the order of `masks()`."""

    @property
    @abc.abstractmethod
    def own_variables(self) -> list:
        """The variables that the plain layer does not have."""

    @abc.abstractmethod
    def masks(self) -> list:
        """One mask per kernel: 1 where the weight lives, 0 where it is pruned."""


def masked_layers(model) -> list[MaskedLayer]:
    """Return the built masked layers of a model, also those of models inside it."""
    return [layer for layer in keras_internals.all_layers(model) if isinstance(layer, MaskedLayer) and layer.built]


def layer_masks(model) -> list[tuple]:
    """Return pairs of a kernel and its mask, for all masked layers of a model."""
    return [pair for layer in masked_layers(model) for pair in zip(layer.kernels, layer.masks(), strict=True)]


def converted(source, clone, new_layer):
    """Return `clone(source, new_layer)` with the weights of `source`: masked layers become plain, or plain ones masked.

    If no layer of the new model is masked, `weight * mask` is copied, so that the outputs stay the same.

    Args:
        source: A model of Keras 3 or of tf_keras.
        clone: `(model, function) -> model`. It calls `function` for every layer, also in models inside, but not for a
            model inside itself.
        new_layer: `layer -> layer`. The new layer must have the weights of the old one, besides those of the mask.

    Returns:
        The new model, which is not compiled. `source` does not change.
    """
    model = clone(source, new_layer)
    layers = masked_layers(model)
    hidden = {id(v) for layer in (*layers, *masked_layers(source)) for v in layer.own_variables}
    masks = {} if layers else {id(kernel): mask for kernel, mask in layer_masks(source)}
    both = ([v for v in m.variables if id(v) not in hidden] for m in (model, source))
    for new, old in zip(*both, strict=True):
        value = backend_ops.read(old)
        if id(old) in masks:
            value = backend_ops.masked(value, masks[id(old)])
        new.assign(np.array(ops.convert_to_numpy(value)))  # a copy: JAX takes an array away when it trains on it
    return model


def plain_layer(layer):
    """Return a copy of the layer with fresh weights and, if it is masked, without its wrapper."""
    return copy_or_share(layer.layer if isinstance(layer, MaskedLayer) else layer)


def clone_model(model: keras.Model, function) -> keras.Model:
    """Return the model with `function(layer)` in place of every layer that is not a model itself."""
    return keras.models.clone_model(model, clone_function=function, recursive=True)


def plain_model(model: keras.Model) -> keras.Model:
    """Return a copy without masked layers, whose kernels are `kernel * mask`: it gives the outputs of `model`."""
    return converted(model, clone_model, plain_layer)
