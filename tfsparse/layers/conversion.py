"""Models with thresholds and plain ones: which layers change, and how weights go over. For both roads."""

import numpy as np
from keras import ops

from tfsparse import engine
from tfsparse.layers.thresholding import Thresholding


def thresholded_layers(model) -> list[Thresholding]:
    """The thresholded layers of a model, also in models inside it."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    return [layer for layer in layers if isinstance(layer, Thresholding) and layer.built]


def masks(model) -> list[tuple]:
    """Pairs of a kernel and its mask, for all thresholded layers."""
    layers = thresholded_layers(model)
    return [pair for layer in layers for pair in zip(layer.kernels, layer.masks(), strict=True)]


def chosen(model, model_type: type, has_kernels, exclude=(), skip_first=False, skip_last=False) -> set[int]:
    """The ids of the layers to be thresholded: all of which `has_kernels` holds, but those that the options leave out.

    Raises: ValueError if there is none.
    """
    found = _with_kernels(model, model_type, has_kernels)
    left = [*exclude, *found[: int(skip_first)], *found[len(found) - int(skip_last) :]]
    ids = {id(layer) for layer in found} - {id(layer) for layer in left}
    if not ids:
        raise ValueError(f"Nothing to prune: no layer of {model.name!r} is left that has a kernel of rank >= 2.")
    return ids


def converted(source, clone, new_layer):
    """`clone(source, new_layer)`, where `new_layer(layer)` differs in thresholds only, with the weights of `source`;
    where no thresholds are left, those that were masked become zero."""
    model = clone(source, new_layer)
    layers = thresholded_layers(model)
    hidden = {id(v) for layer in (*layers, *thresholded_layers(source)) for v in layer.own_variables}
    alive = {} if layers else {id(kernel): mask for kernel, mask in masks(source)}
    both = ([v for v in m.variables if id(v) not in hidden] for m in (model, source))
    for new, old in zip(*both, strict=True):
        value = engine.masked(engine.read(old), alive[id(old)]) if id(old) in alive else engine.read(old)
        new.assign(np.array(ops.convert_to_numpy(value)))  # a copy: JAX takes an array away when it trains on it
    return model


def copy(layer):
    """The layer without its weights."""
    return type(layer).from_config(layer.get_config())


def without_thresholds(layer):
    """The plain layer without its weights."""
    return copy(layer.layer if isinstance(layer, Thresholding) else layer)


def _with_kernels(model, model_type, has_kernels):
    """Layers to wrap, in the model's order; of models inside, their layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, model_type):
            found += _with_kernels(layer, model_type, has_kernels)
        elif not isinstance(layer, Thresholding) and has_kernels(layer):
            found.append(layer)
    return found
