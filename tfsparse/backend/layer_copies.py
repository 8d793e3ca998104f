"""Copies of layers and metrics for models that are built anew, of Keras 3 and tf_keras."""

import warnings

_NO_CONFIG = (NotImplementedError, TypeError, ValueError)  # by get_config and from_config of layers that lack them


def copy_layer(layer, **changes):
    """Return the layer with fresh weights. A layer without variables has no state to copy: it is returned itself.

    Args:
        layer: A layer or metric of either Keras, or an operation of Keras 3.
        **changes: Entries of its config that differ.

    Returns:
        The copy.

    Raises:
        ValueError: If the layer's class cannot be rebuilt from its config.
    """
    if not changes and not getattr(layer, "variables", ()):
        return layer
    try:
        return type(layer).from_config(layer.get_config() | changes)
    except _NO_CONFIG as error:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} cannot be rebuilt from its config: {_first_line(error)} Give its "
            "class a get_config that returns the arguments of its __init__."
        ) from error


def copy_or_share(layer):
    """Return `copy_layer(layer)`, or with a warning the layer itself if it cannot be copied."""
    try:
        return copy_layer(layer)
    except ValueError as error:
        warnings.warn(f"The new model shares an object and its state with the given one. {error}", stacklevel=2)
        return layer


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
