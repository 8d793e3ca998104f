"""The Hessian of a loss by its products with vectors: the largest eigenvalue, the trace. For both roads and engines."""

import abc
import inspect
import itertools
import math

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.hashing import hash_signs


class Hessian(abc.ABC):
    """The Hessian `H` of some `L(w)`; a subclass says what `L` and its product are.

        hvp(v)         = m * d/de grad L(w + e * m * v) at e = 0
        top_eigenvalue = repeat: h = hvp(v); eigenvalue = v . h; v = h / |h|
        trace          = mean over probes z in {-1, 1}^n of z . hvp(z)

    Dot products are float32 (float64 for float64 weights) whatever the compute dtype.

    Args:
        variables: whose curvature.

    Source: Yao, Gholami, Keutzer, Mahoney, "PyHessian", 2020 (its power iteration and trace); Hutchinson, 1989.
    """

    def __init__(self, variables):
        self.variables = list(variables)
        self._dtype = "float64" if "float64" in self._dtypes() else "float32"
        self._product = backend_ops.traced_once(self._product)  # for the three that use it
        # loops over products stay in Python: on CPUs XLA's convolutions are ten times slower inside of a compiled loop
        self._values, self._products = backend_ops.compiled(self._value), backend_ops.compiled(self._product)
        self._starts = backend_ops.compiled(self._start)
        self._powers, self._probes = backend_ops.compiled(self._power), backend_ops.compiled(self._probe)

    @abc.abstractmethod
    def _state(self):
        """What `L` depends on, read now: nests of tensors."""

    @abc.abstractmethod
    def _value(self, state):
        """`L`, a scalar."""

    @abc.abstractmethod
    def _derivative(self, state, vectors) -> list:
        """`H v`."""

    def loss(self) -> float:
        """`L(w)` now: of the batch, without regularisation."""
        return float(ops.convert_to_numpy(self._values(self._state())))

    def hvp(self, vectors, masks=None) -> list:
        """`H v` over `variables`; with masks that of the submatrix of living weights: pruned coordinates are 0.

        Args:
            vectors: list of tensors or arrays of the variables' shapes.
            masks: list likewise, 1 lives, 0 is pruned. None: all live.

        Returns: list of tensors, in units of loss / weight² times those of `vectors`.

        Raises: ValueError if shapes or numbers differ from the variables'.
        """
        return list(self._products(self._state(), self._tensors(vectors, "vectors"), self._masks(masks)))

    def top_eigenvalue(self, vectors=None, iterations: int = 5, masks=None) -> tuple[float, list]:
        """The eigenvalue of largest magnitude, which may be negative, and its unit vector to start the next call with.

        Args:
            vectors: where to start: what an earlier call returned. None, or all zero where weights live: random signs.
            iterations: products to compute, >= 1. From a random start some 20 are needed, from a good one 3 to 5.
            masks: as for `hvp`.

        Returns: (Rayleigh quotient of the last product, unit vector over all variables as a list of tensors). Where a
        product is 0 or not finite the vector stays what it was, so that a later call can go on.
        """
        state, masks = self._state(), self._masks(masks)
        vectors = self._starts(None if vectors is None else self._tensors(vectors, "vectors"), masks)
        for _ in range(_at_least_1(iterations, "iterations")):
            value, vectors = self._powers(state, vectors, masks)
        return float(ops.convert_to_numpy(value)), list(vectors)

    def trace(self, probes: int = 8, seed: int = 0, masks=None) -> float:
        """An unbiased estimate of the sum of all eigenvalues; exact where `H` is diagonal.

        Args:
            probes: products to compute, >= 1. The standard error is `sqrt(2 * sum of H_ij² over i != j / probes)`.
            seed: integer; the probes are a hash of it, equal on all replicas, processes and engines.
            masks: as for `hvp`: the trace of the submatrix.
        """
        state, masks, seed = self._state(), self._masks(masks), _uint32(seed)
        places = [_uint32(i) for i in range(_at_least_1(probes, "probes"))]
        values = [self._probes(state, masks, seed, place) for place in places]
        return float(np.mean([ops.convert_to_numpy(v) for v in values]))

    def _tensors(self, values, what):
        shapes, expected = [tuple(np.shape(v)) for v in values], [tuple(v.shape) for v in self.variables]
        if shapes != expected:
            raise ValueError(
                f"{what} of shapes {shapes}: expected one for each of the variables, of shapes {expected}, "
                f"for example {what}=[np.ones(v.shape) for v in curvature.variables]."
            )
        return [ops.cast(backend_ops.read(v), self._dtype) for v in values]

    def _masks(self, masks):
        return [None] * len(self.variables) if masks is None else self._tensors(masks, "masks")

    def _dtypes(self):
        return [keras.backend.standardize_dtype(v.dtype) for v in self.variables]

    def _product(self, state, vectors, masks):
        vectors = [ops.cast(v, dtype) for v, dtype in zip(_masked(vectors, masks), self._dtypes(), strict=True)]
        return _masked([ops.cast(p, self._dtype) for p in self._derivative(state, vectors)], masks)

    def _start(self, vectors, masks):
        signs = _masked(self._signs(0, 0), masks)
        signs = _unit(signs, signs)
        return signs if vectors is None else _unit(_masked(vectors, masks), signs)

    def _power(self, state, vectors, masks):
        product = self._product(state, vectors, masks)
        return _dot(vectors, product), _unit(product, vectors)

    def _probe(self, state, masks, seed, probe):
        signs = _masked(self._signs(seed, probe), masks)
        return _dot(signs, self._product(state, signs, masks))

    def _signs(self, seed, probe):
        """Return random vectors of -1 and 1. `first` counts the weights before a variable, so no two share a hash."""
        sizes = [math.prod(variable.shape) for variable in self.variables]
        firsts = itertools.accumulate(sizes, initial=0)
        return [
            hash_signs(tuple(variable.shape), seed, probe, first=first, dtype=self._dtype)
            for variable, first in zip(self.variables, firsts, strict=False)
        ]


def _uint32(number):
    return ops.convert_to_tensor(np.uint32(number % 2**32))


def _masked(vectors, masks):
    return [v if m is None else backend_ops.masked(v, m) for v, m in zip(vectors, masks, strict=True)]


def _dot(first, second):
    return sum(ops.sum(a * b) for a, b in zip(first, second, strict=True))


def _unit(vectors, instead):
    """`vectors` over their common norm; where that is 0 or not finite, `instead`."""
    norm = ops.sqrt(_dot(vectors, vectors))
    usable = ops.logical_and(ops.isfinite(norm), norm > 0)
    return [ops.where(usable, v / norm, i) for v, i in zip(vectors, instead, strict=True)]


def tensorflow_product(loss, sources, vectors) -> list:
    """The derivative of the gradient of `loss()` with respect to `sources`, in the direction of `vectors`.

    Args:
        loss: a function of nothing.
        sources: tensors that it uses, or TensorFlow's variables that it reads.
    """
    import tensorflow as tf

    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(sources)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(sources)
            with _exact_moments():
                value = loss()
        gradients = [tf.convert_to_tensor(g) for g in inner.gradient(value, sources, unconnected_gradients=zero)]
    # the products of the gradients with `vectors`, differentiated once more
    products = outer.gradient(gradients, sources, output_gradients=vectors, unconnected_gradients=zero)
    return [tf.convert_to_tensor(p) for p in products]


def inference_calls(model, layers) -> list:
    """Return the attributes to replace so that layers which draw random numbers behave as in inference.

    They are for `keras_internals.replaced`.
    A layer around a BatchNormalization stays in training, and the layers inside it are looked at one by one.

    Args:
        model: A model of either Keras.
        layers: `keras.layers` or `tf_keras.layers`.
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
    """
    if isinstance(loss, loss_class):
        return loss

    def mean(y, y_pred, sample_weight=None):
        values = loss(y, y_pred)
        return ops.mean(values if sample_weight is None else values * ops.cast(sample_weight, values.dtype))

    return mean


def batch(data) -> tuple:
    """Return `(x, y, sample_weight)` as nests of tensors.

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


def _exact_moments():
    """TensorFlow's variance takes its mean for a constant: the same gradient, another Hessian. All of Keras's
    normalisations on batches and groups use it."""
    import tensorflow as tf

    def moments(x, axes, shift=None, keepdims=False, name=None):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims)
        return (mean if keepdims else tf.reduce_mean(x, axes)), variance

    modules = (tf.nn, tf.compat.v2.nn)  # Keras 3 calls the first, tf_keras the second
    return keras_internals.replaced([(module, "moments", moments) for module in modules])


def _at_least_1(number, what):
    if number < 1:
        raise ValueError(f"{what}={number!r}: expected an integer >= 1, for example {what}=8.")
    return int(number)
