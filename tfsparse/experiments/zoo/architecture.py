"""The registry of architectures, and the layer they all end with."""

from collections.abc import Callable

from keras import layers

ARCHITECTURES: dict[str, Callable] = {}


def architecture(min_side: int = 0) -> Callable:
    """Register a function `(inputs, num_classes, **options) -> logits` under its name; a decorator.

    Args:
        min_side: Smallest height and width of an image, in pixels. Default: 0, inputs of any shape.

    Returns:
        The decorator.
    """

    def register(function):
        function.min_side = min_side
        ARCHITECTURES[function.__name__] = function
        return function

    return register


def logits(x, num_classes: int, **options):
    """Return the logits of a dense layer with these options."""
    return layers.Dense(num_classes, name="logits", **options)(x)
