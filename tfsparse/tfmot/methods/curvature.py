"""Curvature of a tf_keras model's loss on a fixed batch."""

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals
from tfsparse.backend.batch_loss import batch, chosen_variables, inference_calls, mean_loss
from tfsparse.backend.derivatives import tensorflow_hvp
from tfsparse.methods.pll.hessian import Hessian
from tfsparse.tfmot import kernels
from tfsparse.tfmot.constraints import native
from tfsparse.tfmot.wrapper import PruneLowMagnitude


class Curvature(Hessian):
    """The Hessian of a tf_keras model's loss on one fixed batch.

        L(w) = loss of (y, model(x)),  no regularisation, no weight decay

    BatchNormalization uses the statistics of the batch and keeps its moving ones. Layers that draw random numbers
    behave as in inference. Pruning wrappers do not update their masks. No variable is written. With `tf.distribute`
    the weights of the first replica are used.

    Args:
        model: A built tf_keras model, wrapped for pruning by `tfsparse.tfmot` or not.
        data: `(x, y)` or `(x, y, sample_weight)`: one batch of arrays with as many rows each.
        loss: Name, function or `tf_keras.losses.Loss` of `(y, model(x))`. Default: None, the loss of `compile`, if
            that is a single one.
        variables: The variables of the model whose curvature is computed. Default: None, the trainable kernels.

    Raises:
        TypeError: If `data` is not one batch.
        ValueError: If the model is not built, has no kernels or not the given variables; if the arrays have different
            numbers of rows; if `loss` is None and the model is not compiled with a single loss.

    Examples:
        >>> tfsparse.tfmot.methods.curvature.Curvature(model, (x[:256], y[:256])).trace()
    """

    def __init__(self, model, data, loss=None, variables=None):
        self.model = model
        super().__init__(chosen_variables(model, variables, kernels.is_kernel, native))
        self._loss = mean_loss(_loss(model, loss), tf_keras.losses.Loss)
        self._data = batch(data)

    def _state(self):
        return self._data

    def _loss_value(self, data):
        x, y, sample_weight = data
        with keras_internals.replaced(_quiet(self.model)):
            return self._loss(y, self.model(x, training=True), sample_weight)

    def _hessian_product(self, state, vectors):
        # outside its strategy a model reads the first copy of a mirrored variable
        sources = [getattr(v, "values", [v])[0] for v in self.variables]
        return tensorflow_hvp(lambda: self._loss_value(state), sources, vectors)


def _loss(model, loss):
    loss = getattr(model, "loss", None) if loss is None else loss
    if not isinstance(loss, str) and not callable(loss):
        raise ValueError(
            f"Model {model.name!r} is compiled with loss={loss!r}: expected one loss. Say which, for example "
            "Curvature(model, data, loss='mse')."
        )
    return tf_keras.losses.get(loss)


def _quiet(model) -> list:
    """The replacements with which a call in training writes no variable and draws no random number."""
    found = [
        (layer, name, tf.autograph.experimental.do_not_convert(call))
        for layer, name, call in inference_calls(model, tf_keras.layers)
    ]
    for layer in keras_internals.all_layers(model):
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            found += keras_internals.frozen_statistics(layer)
        elif isinstance(layer, PruneLowMagnitude):
            found.append((layer, "_before_step", lambda: None))
    return found
