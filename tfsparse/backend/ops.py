"""Operations that TensorFlow and JAX need different code for. Everything else is `keras.ops`."""

import concurrent.futures
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals


def histogram(values, length: int):
    """Count how often each integer occurs.

        counts[i] = number of values that equal i, for i in [0, length)

    `ops.bincount` cannot do this: the length of its result depends on the data, so it does not compile on JAX and does
    not drop large values.

    Args:
        values: Flat integer tensor, >= 0. Values >= `length` are not counted.
        length: Number of bins.

    Returns:
        An int32 tensor of the shape `(length,)`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.DenseBincount(input=values, size=length, weights=tf.constant([], tf.int32))
    import jax.numpy as jnp

    return jnp.zeros(length, "int32").at[values].add(1, mode="drop")


def histograms_are_refused() -> bool:
    """Return True if TensorFlow's kernel behind `histogram` raises an error: on GPUs, if determinism is asked for."""
    return _tensorflow_has_gpus() and keras_internals.op_determinism_is_enabled()


def device_int() -> str:
    """Return the type of integers that are computed with where the weights are.

    On GPUs TensorFlow compares and sums int32 in host memory. Elsewhere int64 would only take twice the memory.
    """
    return "int64" if _tensorflow_has_gpus() else "int32"


def _tensorflow_has_gpus():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def count(flags):
    """Return the number of entries that are True, an int32 tensor."""
    return ops.cast(ops.sum(ops.cast(flags, device_int())), "int32")


def cond(predicate, true_fn: Callable, false_fn: Callable):
    """Return `ops.cond(...)`, but outside a traced step only compute the branch that is taken.

    JAX would compile both branches at every call.

    Args:
        predicate: A bool or a scalar bool tensor.
        true_fn: Function without arguments.
        false_fn: Function without arguments that returns the same structure.

    Returns:
        The result of the branch.
    """
    if is_symbolic(predicate):
        return ops.cond(predicate, true_fn, false_fn)
    return true_fn() if bool(predicate) else false_fn()


def traced_once(function: Callable) -> Callable:
    """Make TensorFlow trace a pure function of tensors once for tensors of the same shapes.

    Without it a step contains the function once for every call. A network has many kernels and few shapes.

    Returns:
        The traced function. On other backends the function itself.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)


def compiled(function: Callable) -> Callable:
    """Compile a pure function of tensors that is called outside a training step.

    Returns:
        The compiled function. On TensorFlow it runs outside any distribution strategy, on one device.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    traced = traced_once(function)

    def call(*arguments):
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return traced(*arguments)
        # in the scope of a strategy Keras divides a loss by the replicas; a scope is in force in its own thread only
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(traced, *arguments).result()

    return call


def when(predicate, update: Callable[[], None], variables: Sequence[keras.Variable]) -> None:
    """Assign to variables if a condition is true, compiled or not.

    On TensorFlow call it in cross-replica context: elsewhere an aggregated variable cannot be assigned in a branch.

    Args:
        predicate: A scalar bool tensor.
        update: Function without arguments that assigns to `variables` and to no others.
        variables: The variables that `update` assigns to.
    """
    # a loop of one turn or none: in a branch that is not taken, XLA copies all variables that the branch would assign
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.while_loop(lambda go: go, lambda go: (update(), [tf.constant(False)])[1], [predicate])
    elif not is_symbolic(predicate):
        cond(predicate, update, lambda: None)
    else:
        # JAX has no loop that assigns: it carries values
        values = [v.value for v in variables]
        loop = (lambda go, _: go, lambda _, values: (False, _values_after(update, variables, values)))
        _, values = ops.while_loop(*loop, (predicate, values))
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _values_after(update, variables, values):
    with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
        update()
    return [scope.get_current_value(v) for v in variables]


def read(variable):
    """Return the value of a variable as a tensor. `ops.convert_to_tensor` returns TensorFlow's variables unchanged."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(variable.value if isinstance(variable, keras.Variable) else variable)
    return ops.convert_to_tensor(variable)


def masked(values, mask, pruned: float = 0.0):
    """Return `values` where the mask is 1 and `pruned` where it is 0.

    All zeros are +0.0, as in `values * mask` they are not: random signs of zeros cannot be compressed.
    """
    mask = ops.cast(mask, values.dtype)
    if keras.backend.backend() == "tensorflow" and pruned == 0:
        import tensorflow as tf

        return tf.math.multiply_no_nan(values, mask)
    return ops.where(mask > 0, values * mask, ops.cast(pruned, values.dtype))


def packbits(masks: Sequence) -> np.ndarray:
    """Pack masks into bits on the device where they are, so that one bit per entry leaves the device.

    Args:
        masks: Tensors or arrays. An entry that is not 0 becomes the bit 1.

    Returns:
        The bits of all masks one after another, eight to a byte as in `np.packbits`.

    Examples:
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
        powers = 2.0 ** tf.range(7.0, -1.0, -1.0)  # exact in float32; TensorFlow has no operation that packs bits
        return tf.cast(tf.linalg.matvec(tf.cast(rows, tf.float32), powers), tf.uint8).numpy()


def is_symbolic(tensor) -> bool:
    """Return True if the tensor has no value yet because a step is being traced."""
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(tensor)
    return False


def to_int(value) -> int:
    """Return the present value of an integer variable, also while a step is being traced."""
    return int(to_numpy(value))


def to_numpy(value) -> np.ndarray:
    """Return the present value of a variable, also while a step is being traced."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            return ops.convert_to_numpy(read(value))
    return ops.convert_to_numpy(value)
