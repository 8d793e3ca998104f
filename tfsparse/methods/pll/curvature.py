"""Curvature of a Keras model's loss on a fixed batch: on TensorFlow and JAX."""

import inspect

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import ops as backend_ops
from tfsparse.methods.pll.hessian import Hessian, in_inference, replaced, tensorflow_product
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
        super().__init__(_chosen(model, variables))
        self.model = model
        self._loss = _compiled_loss(model) if loss is None else _scalar(keras.losses.get(loss))
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
        with keras.StatelessScope(mapping), _without_noise(self.model):
            return self._loss(y, self.model(x, training=True), sample_weight)

    def _derivative(self, state, vectors):
        weights, others, data = state
        if keras.backend.backend() == "jax":
            import jax

            gradient = jax.grad(lambda w: self._value((w, others, data)))
            return jax.jvp(gradient, (weights,), (vectors,))[1]
        return tensorflow_product(lambda: self._value(state), weights, vectors)


def _without_noise(model):
    """Layers that draw random numbers are called as in inference, whatever their caller says."""
    return replaced([(layer, "call", in_inference(layer)) for layer in model._flatten_layers() if _draws(layer)])


def _draws(layer) -> bool:
    """True for a layer with a seed generator, and for recurrent ones, which use their cell's; what holds a
    BatchNormalization must go on in training, and its inner layers are asked one by one."""
    inner = layer._flatten_layers(include_self=False)
    has_generator = any(isinstance(value, keras.random.SeedGenerator) for value in vars(layer).values())
    return (
        (has_generator or isinstance(layer, keras.layers.RNN))
        and "training" in inspect.signature(layer.call).parameters
        and not any(isinstance(each, keras.layers.BatchNormalization) for each in inner)
    )


def _chosen(model, variables):
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: call it on a batch, or model.build(shape), first.")
    chosen = [v for v in model.trainable_variables if is_prunable(v)] if variables is None else list(variables)
    if not chosen:
        raise ValueError(
            f"Model {model.name!r} has no kernel of rank >= 2 among its {len(model.trainable_variables)} trainable "
            "variables. Name others: Curvature(model, data, variables=model.trainable_variables)."
        )
    foreign = [v for v in chosen if not any(v is own for own in model.variables)]
    if foreign:
        raise ValueError(f"{foreign[0]!r} is no variable of model {model.name!r}. Pass some of model.variables.")
    return chosen


def _compiled_loss(model):
    loss = getattr(model, "_compile_loss", None)  # `compute_loss`, which is public, adds the regularisation
    if loss is None:
        raise ValueError(
            f"loss=None, and model {model.name!r} is not compiled with a loss. Compile it, or write, for example, "
            "Curvature(model, data, loss='mse')."
        )
    return loss


def _scalar(loss):
    """A loss as Keras's own are called: (y, y_pred, sample_weight) -> the mean."""
    if isinstance(loss, keras.losses.Loss):
        return loss

    def mean(y, y_pred, sample_weight=None):
        values = loss(y, y_pred)
        return ops.mean(values if sample_weight is None else values * ops.cast(sample_weight, values.dtype))

    return mean


def batch(data) -> tuple:
    """`(x, y, sample_weight)` as nests of tensors.

    Raises: TypeError or ValueError for what is no batch."""
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
