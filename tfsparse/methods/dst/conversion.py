"""Whole models of Keras 3: with thresholds, and plain again."""

import keras

from tfsparse.backend import keras_internals
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
    """A copy of the model in which every layer with kernels is `Thresholded`: compile it and train it with `fit`.

    Layers keep their names and their weights. The copy has to be compiled.

    Args:
        model: Functional or Sequential, built; models inside are converted inside.
        alpha, threshold: as for `Thresholded`.
        exclude: layers to leave as they are.
        skip_first, skip_last: leave the first or the last layer with a kernel as it is.

    Raises: ValueError for a subclassed model, whose layers cannot be exchanged, and if nothing is left to prune.

    >>> model = tfsparse.dst(model, alpha=5e-4)
    >>> model.compile("sgd", loss="mse"); model.fit(x, y, epochs=20, callbacks=[tfsparse.DST()])
    >>> plain = tfsparse.finalize(model)
    """
    _check_cloneable(model)
    chosen = chosen_layers(model, keras.Model, _has_kernels, exclude, skip_first, skip_last)

    def wrapped(layer):
        copy = masked_layer.copy_layer(layer)
        if id(layer) not in chosen:
            return copy
        copy.build_from_config(layer.get_build_config())  # a wrapper is told the shape of the first input only
        return Thresholded(copy, threshold, alpha)

    return masked_layer.converted(model, masked_layer.clone_model, wrapped)


def finalize(model: keras.Model) -> keras.Model:
    """The plain model: weights multiplied by their masks, thresholds gone. Its outputs are those of `model`.

        kernel = kernel * 1[|kernel| > threshold]

    Raises: ValueError for a subclassed model.

    >>> tfsparse.finalize(model).save("sparse.keras")
    """
    _check_cloneable(model)
    return masked_layer.plain_model(model)


def chosen_layers(model, model_type: type, has_kernels, exclude=(), skip_first=False, skip_last=False) -> set[int]:
    """The ids of the layers to be thresholded: all of which `has_kernels` holds, but those that the options leave out.

    Raises: ValueError if there is none.
    """
    found = _with_kernels(model, model_type, has_kernels)
    left = [*exclude, *found[: int(skip_first)], *found[len(found) - int(skip_last) :]]
    ids = {id(layer) for layer in found} - {id(layer) for layer in left}
    if not ids:
        raise ValueError(f"Nothing to prune: no layer of {model.name!r} is left that has a kernel of rank >= 2.")
    return ids


def _with_kernels(model, model_type, has_kernels):
    """Layers to wrap, in the model's order; of models inside, their layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, model_type):
            found += _with_kernels(layer, model_type, has_kernels)
        elif not isinstance(layer, MaskedLayer) and has_kernels(layer):
            found.append(layer)
    return found


def check_cloneable(model, is_graph: bool, wrapped_layer: str) -> None:
    """Refuse a model whose layers cannot be exchanged, or that has no weights yet.

    Args:
        model: A model of either Keras.
        is_graph: Whether it is a Sequential or Functional model.
        wrapped_layer: The code that the error suggests for a subclassed model.

    Raises:
        ValueError: If it is not such a model, or not built.
    """
    if not is_graph:
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose layers cannot be exchanged. Wrap "
            f"its layers where it makes them, self.dense = {wrapped_layer}; to deploy it, build the plain model and "
            "assign kernel * mask, from layer.kernels and layer.masks()."
        )
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: start it with Input(shape).")


def _check_cloneable(model):
    is_graph = isinstance(model, keras.Sequential) or keras_internals.is_functional(model)
    check_cloneable(model, is_graph, "tfsparse.Thresholded(keras.layers.Dense(10))")


def _has_kernels(layer):
    return any(map(selection.is_prunable, layer.trainable_variables))
