"""Whole models: with thresholds, and plain again."""

import keras
import numpy as np
from keras import ops

from tfsparse import engine, prunable
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
    candidates = _candidates(model)
    left = [*exclude, *candidates[: int(skip_first)], *candidates[len(candidates) - int(skip_last) :]]
    chosen = {id(layer) for layer in candidates} - {id(layer) for layer in left}
    if not chosen:
        raise ValueError(f"Nothing to prune: no layer of {model.name!r} is left that has a kernel of rank >= 2.")

    def wrapped(layer):
        copy = _copy(layer)
        if id(layer) not in chosen:
            return copy
        copy.build_from_config(layer.get_build_config())  # a wrapper is told the shape of the first input only
        return Thresholded(copy, threshold, alpha)

    return _with_weights(_clone(model, wrapped), model)


def finalize(model: keras.Model) -> keras.Model:
    """The plain model: weights multiplied by their masks, thresholds gone. Its outputs are those of `model`.

        kernel = kernel * 1[|kernel| > threshold]

    Raises: ValueError for a subclassed model.

    >>> tfsparse.finalize(model).save("sparse.keras")
    """
    _check_cloneable(model)
    plain = _clone(model, lambda layer: _copy(layer.layer if isinstance(layer, Thresholded) else layer))
    return _with_weights(plain, model)


def thresholded_layers(model: keras.Model) -> list[Thresholded]:
    """The `Thresholded` layers of a model, also in models inside it; none for anything else."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    return [layer for layer in layers if isinstance(layer, Thresholded) and layer.built]


def masks(model: keras.Model) -> list[tuple]:
    """Pairs of a kernel and its mask, for all `Thresholded` layers."""
    layers = thresholded_layers(model)
    return [pair for layer in layers for pair in zip(layer.kernels, layer.masks(), strict=True)]


def _check_cloneable(model):
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose layers cannot be exchanged. Wrap its "
            "layers where it makes them, self.dense = tfsparse.Thresholded(keras.layers.Dense(10)); to deploy it, build "
            "the plain model yourself and assign kernel * mask from layer.kernels and layer.masks()."
        )
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: start it with keras.Input(shape).")


def _candidates(model):
    """Layers to wrap, in the model's order; of models inside, their layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _candidates(layer)
        elif not isinstance(layer, Thresholded) and any(map(prunable.is_prunable, layer.trainable_variables)):
            found.append(layer)
    return found


def _clone(model, function):
    """The model with `function(layer)` in place of every layer that is not a model itself."""
    return keras.models.clone_model(model, clone_function=function, recursive=True)


def _copy(layer):
    return type(layer).from_config(layer.get_config())


def _with_weights(model, source):
    """Give a model the weights of another one that differs from it in thresholds only."""
    hidden = [v for layer in (*thresholded_layers(model), *thresholded_layers(source)) for v in layer.own_variables]
    ids = set(map(id, hidden))
    alive = {id(kernel): mask for kernel, mask in masks(source)} if not thresholded_layers(model) else {}
    pairs = zip(*([v for v in m.variables if id(v) not in ids] for m in (model, source)), strict=True)
    for new, old in pairs:
        value = engine.masked(engine.read(old), alive[id(old)]) if id(old) in alive else old
        new.assign(np.array(ops.convert_to_numpy(value)))  # a copy: JAX takes an array away when it trains on it
    return model
