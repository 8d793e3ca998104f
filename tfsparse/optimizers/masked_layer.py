"""Layers and activations that only training has, and plain models made of models with them."""

import abc

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.layer_copies import copy_layer, copy_or_share


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


class TrainingActivation(abc.ABC):
    """Mixed into a layer that is an activation in training and gives way to a function of Keras after it.

    It may stand in a model as a layer, or be the `activation` of another layer.
    """

    @property
    @abc.abstractmethod
    def own_variables(self) -> list:
        """The variables that the plain activation does not have."""

    @abc.abstractmethod
    def plain_name(self) -> str:
        """Return the name of the function of Keras with the same outputs, for example "relu".

        Raises:
            ValueError: If training is not so far that there is one.
        """


class TrainingConnection(abc.ABC):
    """Mixed into a layer that is called on a list, and at the end of training returns the first tensor of it.

    A plain model has no layer in its place.
    """

    @property
    @abc.abstractmethod
    def own_variables(self) -> list:
        """Its variables, none of which the plain model has."""

    @abc.abstractmethod
    def check_ended(self) -> None:
        """Refuse a connection that still changes the outputs.

        Raises:
            ValueError: If training is not so far that it can be taken out.
        """


def training_connections(model) -> list[TrainingConnection]:
    """Return the connections of a model that only training has, also those of models inside it."""
    return [layer for layer in keras_internals.all_layers(model) if isinstance(layer, TrainingConnection)]


def training_activations(model) -> list[TrainingActivation]:
    """Return the activations of a model that only training has, also those of models and layers inside it."""
    return [layer for layer in keras_internals.all_layers(model) if isinstance(layer, TrainingActivation)]


def masked_layers(model) -> list[MaskedLayer]:
    """Return the built masked layers of a model, also those of models inside it."""
    return [layer for layer in keras_internals.all_layers(model) if isinstance(layer, MaskedLayer) and layer.built]


def layer_masks(model) -> list[tuple]:
    """Return pairs of a kernel and its mask, for all masked layers of a model."""
    return [pair for layer in masked_layers(model) for pair in zip(layer.kernels, layer.masks(), strict=True)]


def converted(source, clone, new_layer):
    """Return `clone(source, new_layer)` with the weights of `source`.

    Masks, activations and connections of training are new or go: variables that only one of the models has are not
    copied. If no layer of the new model is masked, `weight * mask` is copied, so that the outputs stay the same.

    Args:
        source: A model of Keras 3 or of tf_keras.
        clone: `(model, function) -> model`. It calls `function` for every layer, also in models inside, but not for a
            model inside itself.
        new_layer: `layer -> layer`. The new layer must have the weights of the old one, besides those of the mask.

    Returns:
        The new model, which is not compiled. `source` does not change.
    """
    layers = []

    def recorded(layer):
        layers.append((new_layer(layer), layer))
        return layers[-1][0]

    model = clone(source, recorded)
    kinds = (masked_layers, training_activations, training_connections)
    hidden = {id(v) for kind in kinds for v in _differing(kind(model), kind(source))}
    masks = {} if masked_layers(model) else {id(kernel): mask for kernel, mask in layer_masks(source)}
    both = (
        [v for v in _by_layer(*group) if id(v) not in hidden]
        for group in ((model, [new for new, _ in layers]), (source, [old for _, old in layers]))
    )
    for new, old in zip(*both, strict=True):
        value = backend_ops.read(old)
        if id(old) in masks:
            value = backend_ops.masked(value, masks[id(old)])
        new.assign(np.array(ops.convert_to_numpy(value)))  # a copy: JAX takes an array away when it trains on it
    return model


def _by_layer(model, layers):
    """Return the variables of a model by layer: the order of `model.variables` depends on the graph."""
    inside = [variable for layer in layers for variable in getattr(layer, "variables", ())]  # operations have none
    known = set(map(id, inside))
    return [*inside, *(variable for variable in model.variables if id(variable) not in known)]


def _differing(new: list, old: list) -> list:
    """Return the own variables of layers of two models, or none if the models have the same."""
    variables = [[v for layer in layers for v in layer.own_variables] for layers in (new, old)]
    return [] if len(variables[0]) == len(variables[1]) else [*variables[0], *variables[1]]


def plain_layer(layer):
    """Return a copy of the layer with fresh weights, without a mask and without an activation of training."""
    layer = layer.layer if isinstance(layer, MaskedLayer) else layer
    if isinstance(layer, TrainingActivation):
        return keras.layers.Activation(layer.plain_name(), name=layer.name, dtype=layer.dtype_policy)
    activation = getattr(layer, "activation", None)
    if isinstance(activation, TrainingActivation):
        return copy_layer(layer, activation=activation.plain_name())
    return copy_or_share(layer)


def clone_model(model: keras.Model, function, call=None) -> keras.Model:
    """Return the model with `function(layer)` in place of every layer that is not a model itself.

    Args:
        model: A Sequential or Functional model.
        function: `layer -> layer`.
        call: `(layer, *inputs) -> outputs`, which calls the layers of Functional models, also of those inside; None:
            they are called as they are. A Sequential model has no use for it.
    """
    call = None if isinstance(model, keras.Sequential) else call
    return keras.models.clone_model(model, clone_function=function, call_function=call, recursive=True)


def plain_model(model: keras.Model) -> keras.Model:
    """Return a copy without masked layers, whose kernels are `kernel * mask`: it gives the outputs of `model`."""
    return converted(model, _clone_plain, plain_layer)


def _clone_plain(model, function):
    def call(layer, *args, **kwargs):
        return args[0][0] if isinstance(layer, TrainingConnection) else layer(*args, **kwargs)

    for connection in training_connections(model):
        connection.check_ended()
    return clone_model(model, function, call)


def finalize(model: keras.Model) -> keras.Model:
    """Return the plain model, whose outputs are those of `model`: nothing is left of what only training has.

        kernel = kernel * mask       of layers with trainable thresholds
        activation = relu            of layers with the activation of `tfsparse.tost`
        y = y                        in place of y + 0 * connection, of `tfsparse.ghost_skips`

    Args:
        model: A Sequential or Functional model, made by `dst`, `tost` or `ghost_skips`, or with `Thresholded` layers,
            the activation `SmoothReLU` or `GhostSkip` layers of your own.

    Returns:
        A model of layers of Keras, which must be compiled to be trained.

    Raises:
        ValueError: If the model is subclassed or not built, or if an activation or connection is not at its end yet.

    Examples:
        >>> tfsparse.finalize(model).save("sparse.keras")
    """
    check_cloneable(model, "Build the plain model and assign kernel * mask, from layer.kernels and masks().")
    plain = plain_model(model)
    left = training_activations(plain)
    if left:
        raise ValueError(
            f"{model.name!r} has {type(left[0]).__name__} inside a layer around other layers, where it cannot be "
            "replaced: build the plain model and assign its weights."
        )
    return plain


def check_cloneable(model: keras.Model, advice: str) -> None:
    """Refuse a model of Keras 3 whose layers cannot be exchanged, or that has no weights yet.

    Args:
        model: The model.
        advice: What the error says to do with a subclassed model.

    Raises:
        ValueError: If it is neither Sequential nor Functional, or not built.
    """
    check_is_graph(model, isinstance(model, keras.Sequential) or keras_internals.is_functional(model), advice)


def check_is_graph(model, is_graph: bool, advice: str) -> None:
    """Refuse a model of either Keras whose layers cannot be exchanged, or that has no weights yet.

    Args:
        model: The model.
        is_graph: Whether it is a Sequential or Functional model.
        advice: What the error says to do with a subclassed model.

    Raises:
        ValueError: If it is not such a model, or not built.
    """
    if not is_graph:
        name = f"{type(model).__name__} {model.name!r}"
        raise ValueError(f"{name} is a subclassed model, whose layers cannot be exchanged. {advice}")
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: start it with Input(shape).")
