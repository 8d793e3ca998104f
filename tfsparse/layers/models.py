"""Whole models of Keras 3: with thresholds, and plain again."""

import keras

from tfsparse import prunable
from tfsparse.layers import conversion
from tfsparse.layers.thresholded import Thresholded


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
    chosen = conversion.chosen(model, keras.Model, _has_kernels, exclude, skip_first, skip_last)

    def wrapped(layer):
        copy = conversion.copy(layer)
        if id(layer) not in chosen:
            return copy
        copy.build_from_config(layer.get_build_config())  # a wrapper is told the shape of the first input only
        return Thresholded(copy, threshold, alpha)

    return conversion.converted(model, _clone, wrapped)


def finalize(model: keras.Model) -> keras.Model:
    """The plain model: weights multiplied by their masks, thresholds gone. Its outputs are those of `model`.

        kernel = kernel * 1[|kernel| > threshold]

    Raises: ValueError for a subclassed model.

    >>> tfsparse.finalize(model).save("sparse.keras")
    """
    _check_cloneable(model)
    return conversion.converted(model, _clone, conversion.without_thresholds)


def _check_cloneable(model):
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose layers cannot be exchanged. Wrap "
            "its layers where it makes them, self.dense = tfsparse.Thresholded(keras.layers.Dense(10)); to deploy it, "
            "build the plain model and assign kernel * mask, from layer.kernels and layer.masks()."
        )
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: start it with keras.Input(shape).")


def _has_kernels(layer):
    return any(map(prunable.is_prunable, layer.trainable_variables))


def _clone(model, function):
    """The model with `function(layer)` in place of every layer that is not a model itself."""
    return keras.models.clone_model(model, clone_function=function, recursive=True)
