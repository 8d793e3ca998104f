"""What the architectures of the zoo share: they are registered by name, and end in logits."""

from collections.abc import Callable

from keras import layers

ARCHITECTURES: dict[str, Callable] = {}


def architecture(min_side: int = 0) -> Callable:
    """Register a function `(inputs, num_classes, **options) -> logits`; `min_side` > 0 also demands an image."""

    def register(function):
        function.min_side = min_side
        ARCHITECTURES[function.__name__] = function
        return function

    return register


def logits(x, num_classes: int, **options):
    """Return the scores of the classes, from one last dense layer with these options."""
    return layers.Dense(num_classes, name="logits", **options)(x)
