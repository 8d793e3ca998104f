"""The places where TensorFlow and JAX need different words for the same thing. All else is `keras.ops`."""

import concurrent.futures
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops


def histogram(values, length: int):
    """Count integers: `counts[i] = #{values == i}` for i in [0, length); larger values are not counted.

    Shapes: any integer tensor of values >= 0 -> int32 `(length,)`. `ops.bincount` cannot do this: its length depends on
    the data, so it neither compiles on JAX nor drops what lies beyond.
    """
    values = ops.reshape(values, (-1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.DenseBincount(input=values, size=length, weights=tf.constant([], tf.int32))
    if keras.backend.backend() == "jax":
        import jax.numpy as jnp

        return jnp.zeros(length, "int32").at[values].add(1, mode="drop")
    return ops.segment_sum(ops.ones_like(values), ops.minimum(values, length), length + 1)[:length]


def cond(predicate, true_fn: Callable, false_fn: Callable):
    """`ops.cond`, but outside a traced step only the branch that is taken runs: JAX would compile both every time."""
    if is_symbolic(predicate):
        return ops.cond(predicate, true_fn, false_fn)
    return true_fn() if bool(predicate) else false_fn()


def traced_once(function: Callable) -> Callable:
    """A pure function of tensors that TensorFlow traces once for tensors of the same shapes, not at each place where a
    step calls it: a network has many kernels and few shapes. Elsewhere the function as it is."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)


def compiled(function: Callable) -> Callable:
    """A pure function of tensors, compiled, to be called from outside of a step; on TensorFlow outside of any strategy
    too, on one device."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    traced = traced_once(function)

    def outside(*arguments):
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return traced(*arguments)
        # in a strategy's scope Keras divides a loss by the replicas; a scope holds for its thread only
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(traced, *arguments).result()

    return outside


def when(predicate, update: Callable[[], None], variables: Sequence[keras.Variable]) -> None:
    """Run `update()`, which assigns only to `variables`, if `predicate` holds; compiled or not, on either backend.

    On TensorFlow call it in cross-replica context: an aggregated variable cannot be assigned in a branch elsewhere.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # a loop of one turn or none: for a branch that is not taken XLA copies every variable that it would assign
        tf.while_loop(lambda go: go, lambda go: (update(), [tf.constant(False)])[1], [predicate])
    elif not is_symbolic(predicate):
        cond(predicate, update, lambda: None)
    else:
        for variable, value in zip(variables, _branches(predicate, update, variables), strict=True):
            variable.assign(value)


def _branches(predicate, update, variables):
    """A `cond` over values: JAX has no branch that assigns."""

    def taken():
        with keras.StatelessScope([(v, v.value) for v in variables]) as scope:
            update()
        return [scope.get_current_value(v) for v in variables]

    return ops.cond(predicate, taken, lambda: [v.value for v in variables])


def read(variable):
    """The value of a variable as a tensor; `ops.convert_to_tensor` hands TensorFlow's variables through as they are."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(variable.value if isinstance(variable, keras.Variable) else variable)
    return ops.convert_to_tensor(variable)


def masked(values, mask):
    """`values * mask` whose zeros are +0.0: the signs of pruned weights are a bit each that no compressor can save."""
    mask = ops.cast(mask, values.dtype)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.multiply_no_nan(values, mask)
    return ops.where(mask > 0, values * mask, ops.zeros_like(values))


def packbits(masks: Sequence) -> np.ndarray:
    """The bits of some masks, all of them one after another, eight to a byte as in `np.packbits`; packed where the
    masks are, so that a bit of each entry leaves the device instead of its float.

    >>> packbits([np.array([1.0, 0.0]), np.array([1.0])])
    array([160], dtype=uint8)
    """
    if all(isinstance(mask, np.ndarray) for mask in masks):
        return np.packbits(np.concatenate([np.ravel(mask) != 0 for mask in masks]))
    if keras.backend.backend() == "jax":
        import jax.numpy as jnp

        return np.asarray(jnp.packbits(jnp.concatenate([jnp.ravel(mask) != 0 for mask in masks])))
    import tensorflow as tf

    with tf.device(masks[0].device):
        bits = tf.concat([tf.reshape(tf.not_equal(mask, 0), [-1]) for mask in masks], 0)
        rows = tf.reshape(tf.pad(bits, [[0, -bits.shape[0] % 8]]), [-1, 8])
        powers = 2.0 ** tf.range(7.0, -1.0, -1.0)  # exact in float32, and TensorFlow has no kernel that packs bits
        return tf.cast(tf.linalg.matvec(tf.cast(rows, tf.float32), powers), tf.uint8).numpy()


def is_symbolic(tensor) -> bool:
    """True while a step is being traced: the tensor has no value yet."""
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(tensor)
    return False


def to_int(value) -> int:
    """The present value of an integer variable, also while a step is being traced."""
    return int(to_numpy(value))


def to_numpy(value) -> np.ndarray:
    """The present value of a variable, also while a step is being traced."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            return ops.convert_to_numpy(read(value))
    return ops.convert_to_numpy(value)
