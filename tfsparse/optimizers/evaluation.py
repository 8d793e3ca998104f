"""What measurements of pruned models share: which pruner may cut, how a model is evaluated, and by which metric."""

import keras

from tfsparse import pruners
from tfsparse.pruners.pruner import Pruner


def check_pruner(pruner) -> Pruner:
    """Return the pruner that an argument means.

    Args:
        pruner: A pruner, its name or its config.

    Raises:
        ValueError: If it needs gradients.
    """
    pruner = pruners.get(pruner)
    if pruner.needs_gradients:
        raise ValueError(f'{pruner!r} scores gradients, and there are none here: write pruner="magnitude".')
    return pruner


def evaluate(model: keras.Model, data) -> dict:
    """Return the loss and the metrics of a compiled model by name.

    Args:
        model: A compiled model.
        data: Arrays `(x, y)`, or a dataset.
    """
    return model.evaluate(*(data if isinstance(data, tuple) else (data,)), verbose=0, return_dict=True)


def check_metric(metric: str | None, results: dict) -> str:
    """Return the name of the metric that is compared: the one given, else "accuracy" if there is one, else "loss".

    Args:
        metric: A name, or None.
        results: What `model.evaluate(..., return_dict=True)` returned.

    Raises:
        ValueError: If the model has no such metric.
    """
    chosen = metric or ("accuracy" if "accuracy" in results else "loss")
    if chosen not in results:
        raise ValueError(f"metric={metric!r}: the model has {', '.join(map(repr, results))}.")
    return chosen
