"""Curvature of a model's loss: Hessian-vector products, the largest eigenvalue, the trace. On TensorFlow and JAX."""

import concurrent.futures
import contextlib
import inspect
import math

import keras
import numpy as np
from keras import ops, tree

from tfsparse import engine
from tfsparse.prunable import is_prunable


class Curvature:
    """The Hessian `H` of a model's loss on one fixed batch, by the model's weights as they are at each call.

        L(w) = compiled loss of (y, model(x)),  no regularisation, no weight decay
        hvp(v)         = m * d/de grad L(w + e * m * v) at e = 0
        top_eigenvalue = repeat: h = hvp(v); eigenvalue = v . h; v = h / |h|
        trace          = mean over probes z in {-1, 1}^n of z . hvp(z)

    BatchNormalization uses the statistics of the batch, and its moving ones stay what they are. Layers that draw random
    numbers (dropout, noise, recurrent dropout, augmentation) behave as in inference; one whose `call` takes no
    `training` goes on drawing. No variable is written. A product costs some three gradients of the batch; the first
    call of each method compiles. Dot products are float32 (float64 for float64 weights) whatever the compute dtype;
    in float16 the gradients themselves may underflow.

    With `tf.distribute` it computes on the first replica's weights, without communication: call it where callbacks
    are called, and give every process the same batch, so that all get the same numbers.

    Args:
        model: a built Keras 3 model.
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or nests of arrays with as many rows each: one batch.
        loss: name, function or `keras.losses.Loss` of `(y, model(x))`. None: the one that the model is compiled with.
        variables: whose curvature. None: the trainable kernels.

    Raises: TypeError or ValueError for anything else.

    Source: Yao, Gholami, Keutzer, Mahoney, "PyHessian", 2020 (its power iteration and trace, but there
    BatchNormalization runs on moving statistics); Hutchinson, 1989.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> curvature = Curvature(model, (np.array([[2.0, 0.0], [0.0, 1.0]]), np.zeros((2, 1))), loss="mse")
    >>> round(curvature.trace(probes=1), 4)  # H = 2 x'x / 2 = diag(4, 1)
    5.0
    """

    def __init__(self, model, data, loss=None, variables=None):
        self.model = model
        self.variables = _chosen(model, variables)
        self.loss = _compiled_loss(model) if loss is None else _scalar(keras.losses.get(loss))
        self._data = _batch(data)
        chosen = {id(v) for v in self.variables}
        self._others = [v for v in model.variables if id(v) not in chosen]
        self._dtype = "float64" if any(v.dtype == "float64" for v in self.variables) else "float32"
        # loops over products stay in Python: on CPUs XLA's convolutions are ten times slower inside of a compiled loop
        self._starts, self._products = _compiled(self._start), _compiled(self._product)
        self._powers, self._probes = _compiled(self._power), _compiled(self._probe)

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

    def _state(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # in mid-fit JAX's weights live in the trainer
        return [engine.read(v) for v in self.variables], [engine.read(v) for v in self._others], self._data

    def _tensors(self, values, what):
        shapes, expected = [tuple(np.shape(v)) for v in values], [tuple(v.shape) for v in self.variables]
        if shapes != expected:
            raise ValueError(
                f"{what} of shapes {shapes}: expected one for each of the variables, of shapes {expected}, "
                f"for example {what}=[np.ones(v.shape) for v in curvature.variables]."
            )
        return [ops.cast(engine.read(v), self._dtype) for v in values]

    def _masks(self, masks):
        return [None] * len(self.variables) if masks is None else self._tensors(masks, "masks")

    def _value(self, weights, others, data):
        x, y, sample_weight = data
        mapping = list(zip(self.variables + self._others, [*weights, *others], strict=True))
        with keras.StatelessScope(mapping), _without_noise(self.model):
            return self.loss(y, self.model(x, training=True), sample_weight)

    def _product(self, state, vectors, masks):
        weights, others, data = state
        vectors = [ops.cast(v, w.dtype) for v, w in zip(_masked(vectors, masks), weights, strict=True)]
        products = _derivative(lambda w: self._value(w, others, data), weights, vectors)
        return _masked([ops.cast(p, self._dtype) for p in products], masks)

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
        """-1 or 1 from a hash of seed, probe and place among all weights, so that no two weights share theirs."""
        key = _mix(_mix(ops.cast(seed, "uint32")) + ops.cast(probe, "uint32"))
        signs, first = [], 0
        for variable in self.variables:
            size = math.prod(variable.shape)
            place = ops.cast(ops.arange(size, dtype="int32"), "uint32") + ops.cast(first, "uint32")
            bits = ops.right_shift(_mix(ops.bitwise_xor(_mix(place), key)), ops.cast(31, "uint32"))
            signs.append(ops.reshape(1 - 2 * ops.cast(bits, self._dtype), variable.shape))
            first += size
        return signs


def _uint32(number):
    return ops.convert_to_tensor(np.uint32(number % 2**32))


def _mix(x):
    """A hash of 32 bits to 32 bits, one to one."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ops.bitwise_xor(x, ops.right_shift(x, ops.cast(shift, "uint32"))) * ops.cast(factor, "uint32")
    return x


def _masked(vectors, masks):
    return [v if m is None else engine.masked(v, m) for v, m in zip(vectors, masks, strict=True)]


def _dot(first, second):
    return sum(ops.sum(a * b) for a, b in zip(first, second, strict=True))


def _unit(vectors, instead):
    """`vectors` over their common norm; where that is 0 or not finite, `instead`."""
    norm = ops.sqrt(_dot(vectors, vectors))
    usable = ops.logical_and(ops.isfinite(norm), norm > 0)
    return [ops.where(usable, v / norm, i) for v, i in zip(vectors, instead, strict=True)]


def _derivative(function, weights, vectors):
    """The derivative of `function`'s gradient at `weights` in the direction of `vectors`."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jvp(jax.grad(function), (weights,), (vectors,))[1]
    import tensorflow as tf

    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(weights)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(weights)
            with _exact_moments():
                loss = function(weights)
        gradients = [tf.convert_to_tensor(g) for g in inner.gradient(loss, weights, unconnected_gradients=zero)]
    # the products of the gradients with `vectors`, differentiated once more
    products = outer.gradient(gradients, weights, output_gradients=vectors, unconnected_gradients=zero)
    return [tf.convert_to_tensor(p) for p in products]


@contextlib.contextmanager
def _exact_moments():
    """TensorFlow's variance takes its mean for a constant: the same gradient, another Hessian. All of Keras's
    normalisations on batches and groups use it."""
    import tensorflow as tf

    def moments(x, axes, shift=None, keepdims=False, name=None):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims)
        return (mean if keepdims else tf.reduce_mean(x, axes)), variance

    theirs, tf.nn.moments = tf.nn.moments, moments
    try:
        yield
    finally:
        tf.nn.moments = theirs


def _compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    traced = engine.traced_once(function)

    def outside(*arguments):
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return traced(*arguments)
        # in a strategy's scope Keras divides the loss by the replicas; a scope holds for its thread only
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(traced, *arguments).result()

    return outside


@contextlib.contextmanager
def _without_noise(model):
    """Layers that draw random numbers are called as in inference, whatever their caller says."""
    before = [(layer, vars(layer).get("call")) for layer in model._flatten_layers() if _draws(layer)]
    for layer, _ in before:
        vars(layer)["call"] = lambda *args, _call=layer.call, **kwargs: _call(*args, **kwargs | {"training": False})
    try:
        yield
    finally:
        for layer, call in before:
            del vars(layer)["call"]
            if call is not None:
                vars(layer)["call"] = call


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


def _batch(data):
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


def _at_least_1(number, what):
    if number < 1:
        raise ValueError(f"{what}={number!r}: expected an integer >= 1, for example {what}=8.")
    return int(number)
