"""Models with smooth activations in place of ReLU."""

import keras

from tfsparse.backend.layer_copies import copy_layer, copy_or_share
from tfsparse.methods.tost.activation import SmoothReLU
from tfsparse.optimizers import masked_layer

_PLAIN_RELU = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}


def tost(model: keras.Model) -> keras.Model:
    """Return a copy of the model with `SmoothReLU` in place of every ReLU.

    Replaced are layers with `activation="relu"`, and the layer `ReLU` without options. Layers keep their names and
    weights. The copy shares no weight with the model, so the model stays as it is. Not replaced are the function
    `keras.ops.relu` and what is inside of layers around other layers, such as TimeDistributed.

    Any pruner trains the copy. Train it with the callback `ToST`, which brings all activations to ReLU, and then take
    the plain model with `finalize`.

    Args:
        model: A built Sequential or Functional model; models inside are converted too.

    Returns:
        The new model, which must be compiled.

    Raises:
        ValueError: If the model is subclassed or not built, or if it has no ReLU.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022).

    Examples:
        >>> model = tfsparse.tost(model)
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.98, "rigl"), tfsparse.ToST()])
        >>> tfsparse.finalize(model).save("sparse.keras")
    """
    advice = "Where it makes its layers write keras.layers.Dense(10, activation=tfsparse.SmoothReLU())."
    masked_layer.check_cloneable(model, advice)
    smooth = masked_layer.converted(model, masked_layer.clone_model, _smooth_layer)
    if not masked_layer.training_activations(smooth):
        raise ValueError(
            f'Nothing to make smooth: {model.name!r} has no layer with activation="relu" and no layer ReLU. Write '
            "keras.layers.Dense(10, activation=tfsparse.SmoothReLU()) in place of other functions."
        )
    return smooth


def _smooth_layer(layer):
    """Return a copy of the layer with fresh weights and with a smooth activation if it has ReLU."""
    if isinstance(layer, keras.layers.ReLU) and layer.get_config().items() >= _PLAIN_RELU.items():
        return SmoothReLU(name=layer.name, dtype=layer.dtype_policy)
    if getattr(layer, "activation", None) is keras.activations.relu:
        return copy_layer(layer, activation=SmoothReLU(name=f"{layer.name}_relu", dtype=layer.dtype_policy))
    return copy_or_share(layer)
