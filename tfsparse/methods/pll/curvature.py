"""Curvature of a Keras 3 model's loss on a fixed batch."""

import keras

from tfsparse.backend import derivatives, keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.batch_loss import batch, chosen_variables, inference_calls, mean_loss
from tfsparse.methods.pll.hessian import Hessian
from tfsparse.pruners.selection import is_prunable


class Curvature(Hessian):
    """The Hessian of a model's loss on one fixed batch, at the weights that the model has at each call.

        L(w) = loss of (y, model(x)),  no regularisation, no weight decay

    BatchNormalization uses the statistics of the batch and keeps its moving ones. (PyHessian uses the moving ones.)
    Layers that draw random numbers (dropout, noise, recurrent dropout, augmentation) behave as in inference, except a
    layer whose `call` has no argument `training`. No variable is written.

    A product costs about three gradients of the batch. The first call of each method compiles. In float16 the gradients
    themselves may underflow. With `tf.distribute` the weights of the first replica are used, without communication:
    call it where callbacks are called, and give every process the same batch, so that all get the same numbers.

    Args:
        model: A built Keras 3 model.
        data: `(x, y)` or `(x, y, sample_weight)`: one batch of arrays, or nests of arrays, with as many rows each.
        loss: Name, function or `keras.losses.Loss` of `(y, model(x))`. Default: None, the loss of `compile`.
        variables: The variables of the model whose curvature is computed. Default: None, the trainable kernels.

    Raises:
        TypeError: If `data` is not one batch.
        ValueError: If the model is not built, has no kernels or not the given variables; if the arrays have different
            numbers of rows; if `loss` is None and the model is not compiled with a loss.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> curvature = Curvature(model, (np.array([[2.0, 0.0], [0.0, 1.0]]), np.zeros((2, 1))), loss="mse")
        >>> round(curvature.trace(probes=1), 4)  # H = 2 x'x / 2 = diag(4, 1)
        5.0
    """

    def __init__(self, model, data, loss=None, variables=None):
        super().__init__(chosen_variables(model, variables, is_prunable))
        self.model = model
        self._loss = _compiled_loss(model) if loss is None else mean_loss(keras.losses.get(loss), keras.losses.Loss)
        self._data = batch(data)
        chosen = {id(v) for v in self.variables}
        self._others = [v for v in model.variables if id(v) not in chosen]

    def _state(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # during `fit` the trainer of JAX holds the weights
        return [backend_ops.read(v) for v in self.variables], [backend_ops.read(v) for v in self._others], self._data

    def _loss_value(self, state):
        weights, others, (x, y, sample_weight) = state
        mapping = list(zip(self.variables + self._others, [*weights, *others], strict=True))
        with keras.StatelessScope(mapping), keras_internals.replaced(inference_calls(self.model, keras.layers)):
            return self._loss(y, self.model(x, training=True), sample_weight)

    def _hessian_product(self, state, vectors):
        weights, others, data = state
        return derivatives.hessian_product(lambda w: self._loss_value((w, others, data)), weights, vectors)


def _compiled_loss(model):
    loss = keras_internals.compiled_loss(model)
    if loss is None:
        raise ValueError(
            f"loss=None, and model {model.name!r} is not compiled with a loss. Compile it, or write, for example, "
            "Curvature(model, data, loss='mse')."
        )
    return loss
