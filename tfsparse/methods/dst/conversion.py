"""Whole models of Keras 3 with thresholds."""

import keras

from tfsparse.backend.layer_copies import copy_layer, copy_or_share
from tfsparse.methods.dst.layer import Thresholded
from tfsparse.optimizers import masked_layer
from tfsparse.optimizers.masked_layer import MaskedLayer
from tfsparse.pruners import selection


def dst(
    model: keras.Model,
    alpha: float = 5e-4,
    threshold: str = "vector",
    exclude=(),
    skip_first: bool = False,
    skip_last: bool = False,
) -> keras.Model:
    """Return a copy of the model in which every layer with kernels is `Thresholded`.

    Layers keep their names and weights.

    Args:
        model: A built Sequential or Functional model; models inside are converted too.
        alpha: Weight of the penalty, >= 0; the larger, the sparser. Default: 5e-4.
        threshold: One threshold per kernel ("scalar"), per output unit ("vector") or per weight ("matrix"). Default:
            "vector".
        exclude: Layers to leave as they are, or their names; one or several.
        skip_first: Whether to leave the first layer with a kernel as it is. Default: False.
        skip_last: Whether to leave the last layer with a kernel as it is. Default: False.

    Returns:
        The new model, which must be compiled.

    Raises:
        ValueError: If the model is subclassed or not built, or if no layer is left to prune.

    Examples:
        >>> model = tfsparse.dst(model, alpha=5e-4)
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.DST(0.9)])
        >>> tfsparse.finalize(model).save("sparse.keras")
    """
    masked_layer.check_cloneable(model, advice("tfsparse.Thresholded(keras.layers.Dense(10))"))
    chosen = chosen_layers(model, keras.Model, _has_kernels, exclude, skip_first, skip_last)

    def wrapped(layer):
        if id(layer) not in chosen:
            return copy_or_share(layer)
        copy = copy_layer(layer)
        copy.build_from_config(layer.get_build_config())  # a wrapper is told the shape of the first input only
        return Thresholded(copy, threshold, alpha)

    return masked_layer.converted(model, masked_layer.clone_model, wrapped)


def chosen_layers(model, model_type: type, has_kernels, exclude=(), skip_first=False, skip_last=False) -> set[int]:
    """Return the ids of the layers that get thresholds.

    Args:
        model: A model of either Keras.
        model_type: `keras.Model` or `tf_keras.Model`.
        has_kernels: `layer -> bool`.
        exclude: Layers to leave out, or their names; one or several.
        skip_first: Whether to leave out the first layer with a kernel.
        skip_last: Whether to leave out the last layer with a kernel.

    Returns:
        A set of ids.

    Raises:
        ValueError: If no layer is left.
    """
    layers = _layers_with_kernels(model, model_type, has_kernels)
    given = exclude if isinstance(exclude, (list, tuple, set)) else [exclude]
    excluded = [layer for item in given for layer in selection.layers_named(model, item)]
    excluded += [*layers[: int(skip_first)], *layers[len(layers) - int(skip_last) :]]
    ids = {id(layer) for layer in layers} - {id(layer) for layer in excluded}
    if not ids:
        raise ValueError(f"Nothing to prune: no layer of {model.name!r} is left that has a kernel of rank >= 2.")
    return ids


def _layers_with_kernels(model, model_type, has_kernels):
    """Return the layers with kernels and without masks in the model's order, also those of models inside it."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, model_type):
            layers += _layers_with_kernels(layer, model_type, has_kernels)
        elif not isinstance(layer, MaskedLayer) and has_kernels(layer):
            layers.append(layer)
    return layers


def advice(wrapped_layer: str) -> str:
    """Return what to do with a subclassed model.

    Args:
        wrapped_layer: The code that makes a layer with thresholds.
    """
    return (
        f"Wrap its layers where it makes them, self.dense = {wrapped_layer}; to deploy it, build the plain model and "
        "assign kernel * mask, from layer.kernels and layer.masks()."
    )


def _has_kernels(layer):
    return any(map(selection.is_prunable, layer.trainable_variables))
