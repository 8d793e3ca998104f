"""Curvature of a Keras model's loss on a fixed batch: on TensorFlow and JAX."""

import keras

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.methods.pll.hessian import (
    Hessian,
    batch,
    chosen_variables,
    inference_calls,
    mean_loss,
    tensorflow_product,
)
from tfsparse.pruners.selection import is_prunable


class Curvature(Hessian):
    """The Hessian `H` of a model's loss on one fixed batch, by the model's weights as they are at each call.

        L(w) = compiled loss of (y, model(x)),  no regularisation, no weight decay

    Methods: `loss`, `hvp`, `top_eigenvalue`, `trace`, of `Hessian`.

    BatchNormalization uses the statistics of the batch (PyHessian the moving ones), and its moving ones stay what they
    are. Layers that draw random numbers (dropout, noise, recurrent dropout, augmentation) behave as in inference; one
    whose `call` takes no `training` goes on drawing. No variable is written. A product costs some three gradients of
    the batch; the first call of each method compiles. In float16 the gradients themselves may underflow.

    With `tf.distribute` it computes on the first replica's weights, without communication: call it where callbacks
    are called, and give every process the same batch, so that all get the same numbers.

    Args:
        model: a built Keras 3 model.
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or nests of arrays with as many rows each: one batch.
        loss: name, function or `keras.losses.Loss` of `(y, model(x))`. None: the one that the model is compiled with.
        variables: whose curvature. None: the trainable kernels.

    Raises: TypeError or ValueError for anything else.

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
            self.model.jax_state_sync()  # in mid-fit JAX's weights live in the trainer
        return [backend_ops.read(v) for v in self.variables], [backend_ops.read(v) for v in self._others], self._data

    def _value(self, state):
        weights, others, (x, y, sample_weight) = state
        mapping = list(zip(self.variables + self._others, [*weights, *others], strict=True))
        with keras.StatelessScope(mapping), keras_internals.replaced(inference_calls(self.model, keras.layers)):
            return self._loss(y, self.model(x, training=True), sample_weight)

    def _derivative(self, state, vectors):
        weights, others, data = state
        if keras.backend.backend() == "jax":
            import jax

            gradient = jax.grad(lambda w: self._value((w, others, data)))
            return jax.jvp(gradient, (weights,), (vectors,))[1]
        return tensorflow_product(lambda: self._value(state), weights, vectors)


def _compiled_loss(model):
    loss = getattr(model, "_compile_loss", None)  # `compute_loss`, which is public, adds the regularisation
    if loss is None:
        raise ValueError(
            f"loss=None, and model {model.name!r} is not compiled with a loss. Compile it, or write, for example, "
            "Curvature(model, data, loss='mse')."
        )
    return loss
