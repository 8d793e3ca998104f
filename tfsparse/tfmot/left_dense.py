"""Weights of a wrapped tf_keras model that could be pruned and stay dense."""

import warnings

from tfsparse.pruners import left_dense
from tfsparse.tfmot import kernels


def warn_of_dense_weights(model, policy=None) -> None:
    """Warn of weights of own layers that are like kernels, and of kernels that are smaller than a unit.

    Layers that define `get_prunable_weights` have decided, and a policy decides for all layers.

    Args:
        model: A wrapped model. What is not built yet is not known.
        policy: The policy with which it was wrapped.
    """
    wrappers = [wrapper for wrapper in kernels.wrappers(model) if wrapper.built]
    pruned = {id(weight) for wrapper in wrappers for weight, *_ in wrapper.pruning_vars}
    offered = [weight for wrapper in wrappers for weight in wrapper.layer.get_prunable_weights()]
    named = [f"{_described(w)}: {left_dense.TOO_FEW_UNITS}" for w in offered if id(w) not in pruned]
    own = _own_weights(model, pruned) if policy is None and model.built else {}
    named += [f"{_described(w)}: {left_dense.NO_KERNEL}" for weights in own.values() for w in weights]
    if named:
        method = "a method get_prunable_weights that returns what to prune; [] is nothing"
        advice = f" Give {' and '.join(own)} {method}." if own else ""
        warnings.warn(f"{'; '.join(named)}.{advice}", stacklevel=4)


def _own_weights(model, pruned):
    """Return `{name of a class of layers: its weights that are like kernels}`, of those that nobody chose."""
    layers, found = left_dense.owners(model), {}
    for weight in model.trainable_weights:
        owners = layers.get(id(weight), ())
        undecided = not any(hasattr(type(layer), "get_prunable_weights") for layer in owners)
        if owners and undecided and id(weight) not in pruned and left_dense.could_be_pruned(weight, owners):
            found.setdefault(type(owners[0]).__name__, []).append(weight)
    return found


def _described(weight):
    return f"{weight.name.partition(':')[0]} {tuple(weight.shape)} stays dense"
