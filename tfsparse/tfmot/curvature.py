"""Curvature of a tf_keras model's loss on a fixed batch."""

import inspect

import tensorflow as tf
import tf_keras

from tfsparse.methods.pll.curvature import batch
from tfsparse.methods.pll.hessian import Hessian, in_inference, replaced, tensorflow_product
from tfsparse.tfmot import kernels
from tfsparse.tfmot.pruning import native
from tfsparse.tfmot.wrapper import PruneLowMagnitude


class Curvature(Hessian):
    """`tfsparse.methods.pll.curvature.Curvature` for tf_keras: the Hessian of a model's loss on one fixed batch.

        L(w) = loss of (y, model(x)),  no regularisation, no weight decay

    BatchNormalization uses the statistics of the batch and keeps its moving ones, layers that draw random numbers
    behave as in inference, pruning wrappers leave their masks alone: nothing is written. With `tf.distribute` it
    computes on the first replica's weights.

    Args:
        model: a built tf_keras model, wrapped for pruning by `tfsparse.tfmot` or not.
        data: `(x, y)` or `(x, y, sample_weight)`: one batch.
        loss: name, function or `tf_keras.losses.Loss` of `(y, model(x))`. None: the one of `compile`, if it is one.
        variables: whose curvature. None: the trainable kernels.

    Raises: TypeError or ValueError for anything else.

    >>> tfsparse.tfmot.Curvature(model, (x[:256], y[:256])).trace()
    """

    def __init__(self, model, data, loss=None, variables=None):
        self.model = model
        super().__init__(_chosen(model, variables))
        self._loss = _scalar(model, loss)
        self._data = batch(data)

    def _state(self):
        return self._data

    def _value(self, data):
        x, y, sample_weight = data
        with replaced(_quiet(self.model)):
            return self._loss(y, self.model(x, training=True), sample_weight)

    def _derivative(self, state, vectors):
        # of a mirrored variable the first copy, which is what the model reads outside of its strategy
        sources = [getattr(v, "values", [v])[0] for v in self.variables]
        return tensorflow_product(lambda: self._value(state), sources, vectors)


def _chosen(model, variables):
    chosen = [w for w in model.trainable_weights if kernels.is_kernel(w)] if variables is None else list(variables)
    if not chosen:
        raise ValueError(
            f"Model {model.name!r} has no kernel of rank >= 2 among its {len(model.trainable_weights)} trainable "
            "weights. Is it built? Name others: Curvature(model, data, variables=model.trainable_weights)."
        )
    return [native(v) for v in chosen]


def _scalar(model, loss):
    """A function (y, y_pred, sample_weight) -> the mean."""
    loss = getattr(model, "loss", None) if loss is None else loss
    if not isinstance(loss, str) and not callable(loss):
        raise ValueError(
            f"Model {model.name!r} is compiled with loss={loss!r}: expected one loss. Say which, for example "
            "Curvature(model, data, loss='mse')."
        )
    function = tf_keras.losses.get(loss)

    def mean(y, y_pred, sample_weight):
        if isinstance(function, tf_keras.losses.Loss):
            return function(y, y_pred, sample_weight)
        values = function(y, y_pred)
        return tf.reduce_mean(values if sample_weight is None else values * tf.cast(sample_weight, values.dtype))

    return mean


def _quiet(model) -> list:
    """What is replaced in the layers so that a call in training writes nothing and draws nothing."""
    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            keep = lambda variable, *_, **__: variable  # noqa: E731
            found += [(layer, "_assign_moving_average", keep), (layer, "_assign_new_value", keep)]
        elif isinstance(layer, PruneLowMagnitude):
            found.append((layer, "_before_step", lambda: None))
        elif _draws(layer):
            found.append((layer, "call", tf.autograph.experimental.do_not_convert(in_inference(layer))))
    return found


def _draws(layer) -> bool:
    """Noise, dropout, augmentation, and recurrent layers, which use their cell's; not what holds other layers."""
    random = hasattr(layer, "_random_generator") or isinstance(layer, tf_keras.layers.RNN)
    return random and "training" in inspect.signature(layer.call).parameters
