"""The loss of a model on one batch, for keras and tf_keras: which variables, which data, and layers without noise."""

import inspect

import numpy as np
from keras import ops, tree

from tfsparse.backend import keras_internals


def inference_calls(model, layers) -> list:
    """Return the attributes to replace so that layers which draw random numbers behave as in inference.

    A layer that contains a BatchNormalization stays in training; the layers inside it are replaced one by one.

    Args:
        model: A model of either Keras.
        layers: `keras.layers` or `tf_keras.layers`.

    Returns:
        A list for `keras_internals.replaced`.
    """
    return [
        (layer, "call", _in_inference(layer.call))
        for layer in keras_internals.all_layers(model)
        if (keras_internals.has_random_generator(layer) or isinstance(layer, layers.RNN))  # an RNN uses its cell's
        and "training" in inspect.signature(layer.call).parameters
        and not any(isinstance(inner, layers.BatchNormalization) for inner in keras_internals.all_layers(layer))
    ]


def _in_inference(call):
    return lambda *args, **kwargs: call(*args, **kwargs | {"training": False})


def chosen_variables(model, variables, is_kernel, native=lambda variable: variable) -> list:
    """Return the variables whose curvature is computed: those given, or else the trainable kernels of the model.

    Args:
        model: A model of either Keras.
        variables: The variables that the user gave, or None.
        is_kernel: `variable -> bool`: whether it is pruned by default.
        native: `variable -> variable`: the one without the wrapper that mixed precision puts around it.

    Returns:
        A list of variables, without those wrappers.

    Raises:
        ValueError: If the model has no weights yet, no kernels, or not the given variables.
    """
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: call it on a batch, or model.build(shape), first.")
    chosen = [v for v in model.trainable_variables if is_kernel(v)] if variables is None else list(variables)
    if not chosen:
        raise ValueError(
            f"Model {model.name!r} has no kernel of rank >= 2 among its {len(model.trainable_variables)} trainable "
            "variables. Name others: Curvature(model, data, variables=model.trainable_variables)."
        )
    own = {id(native(v)) for v in model.variables}
    foreign = [v for v in chosen if id(native(v)) not in own]
    if foreign:
        raise ValueError(f"{foreign[0]!r} is not a variable of model {model.name!r}. Pass some of model.variables.")
    return [native(v) for v in chosen]


def mean_loss(loss, loss_class: type):
    """Return a loss as a function of (y, y_pred, sample_weight) that gives the mean over the batch.

    Args:
        loss: A loss function, or a loss object, which is such a function already.
        loss_class: `keras.losses.Loss` or `tf_keras.losses.Loss`.

    Returns:
        The function.
    """
    if isinstance(loss, loss_class):
        return loss

    def mean(y, y_pred, sample_weight=None):
        values = loss(y, y_pred)
        return ops.mean(values if sample_weight is None else values * ops.cast(sample_weight, values.dtype))

    return mean


def batch(data) -> tuple:
    """Return the data of one batch as tensors.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or nests of arrays.

    Returns:
        `(x, y, sample_weight)`, nests of tensors; None where there is no sample weight.

    Raises:
        TypeError: If `data` is not a tuple of two or three.
        ValueError: If the arrays have different numbers of rows.
    """
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            f"data={type(data).__name__}: expected one batch, (x, y) or (x, y, sample_weight). "
            "Of a dataset take the first: data=next(iter(dataset))."
        )
    lengths = [np.shape(array)[0] for array in tree.flatten(data) if array is not None]
    if len(set(lengths)) > 1:
        raise ValueError(f"data with {lengths} rows: expected as many in each, as in data=(x[:256], y[:256]).")
    x, y, sample_weight = (*data, None)[:3]
    return tree.map_structure(lambda a: None if a is None else ops.convert_to_tensor(a), (x, y, sample_weight))
