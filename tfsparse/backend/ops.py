"""Operations that TensorFlow and JAX need different code for. Everything else is `keras.ops`."""

import collections
import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals

_CALLED = {"_noinline": True}  # TensorFlow keeps the call


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


def histograms_are_slow() -> bool:
    """Return True where `count_each` of a few comparisons does better than `histogram`.

    XLA makes a loop of single steps of a histogram, and a step with many of them compiles slowly. TensorFlow's own
    kernel raises an error on GPUs if determinism is asked for.
    """
    return uses_xla() or (_tensorflow_has_gpus() and keras_internals.op_determinism_is_enabled())


def uses_xla() -> bool:
    """Return True if what is traced or computed now is compiled by XLA."""
    if keras.backend.backend() == "tensorflow":
        return keras_internals.is_in_xla_context()
    return keras.backend.backend() == "jax"


def device_int() -> str:
    """Return the type of integers that are computed with where the weights are.

    On GPUs TensorFlow compares and sums int32 in host memory. Elsewhere int64 would only take twice the memory.
    """
    return "int64" if _tensorflow_has_gpus() and not uses_xla() else "int32"


def _tensorflow_has_gpus():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def count(flags):
    """Return the numbers of entries that are True along the last axis, an int32 tensor."""
    return ops.cast(ops.sum(ops.cast(flags, device_int()), axis=-1), "int32")


def count_each(flags: Sequence):
    """Return the numbers of entries that are True along the last axis of several tensors of one shape.

    XLA reads what the tensors are computed from only once for all of them.

    Returns:
        An int32 tensor with a row per tensor.
    """
    if not uses_xla():
        return ops.stack([count(f) for f in flags])
    numbers = [ops.cast(f, "int32") for f in flags]
    if keras.backend.backend() != "jax":
        return ops.stack(keras_internals.xla_sums(numbers))
    import jax

    return ops.stack(jax.lax.reduce(numbers, [np.int32(0)] * len(numbers), _sums, (numbers[0].ndim - 1,)))


def _sums(first, second):
    return [a + b for a, b in zip(first, second, strict=True)]


def view(tensor, dtype: str):
    """Return `ops.view(...)` for a dtype of the same size. Keras refuses a length that TensorFlow does not know yet."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.bitcast(tensor, dtype)
    return ops.view(tensor, dtype)


def indices(tensor, dtype: str):
    """Return `0, 1, ...` for the entries of a flat tensor, whose length TensorFlow may not know yet."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.range(tf.size(tensor, out_type=tf.as_dtype(dtype)), dtype=dtype)
    return ops.arange(tensor.shape[0], dtype=dtype)


def in_turn(tensors: Iterable) -> Iterator:
    """Yield tensors that an iterator computes, so that what one needs on the way is freed before the next is computed.

    A graph of TensorFlow would compute them in any order, all at once if memory allows. XLA orders by itself.

    Args:
        tensors: Tensors, or nests of tensors and operations.
    """
    iterator, previous = iter(tensors), None
    while True:
        with _after(previous):
            try:
                previous = next(iterator)
            except StopIteration:
                return
        yield previous


def make_in_turn(updates: Iterable) -> None:
    """Run through an iterator that assigns to variables, as `in_turn`.

    Args:
        updates: Yields what `tfsparse.backend.replicas.update` returns.
    """
    collections.deque(in_turn(updates), maxlen=0)


def _after(results):
    if keras.backend.backend() != "tensorflow" or results is None:
        return contextlib.nullcontext()
    import tensorflow as tf

    flat = tf.nest.flatten(results)
    return tf.control_dependencies([r for r in flat if isinstance(r, tf.Operation) or tf.is_symbolic_tensor(r)])


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


@functools.cache
def traced_for_all_lengths(function: Callable, *static) -> Callable:
    """Make TensorFlow trace a pure function of flat tensors once for all lengths, and JAX once for each length.

    A step contains only a call of the function, in each place. TensorFlow would put its operations there instead.

    Args:
        function: Called as `function(*static, *tensors)`. Int32 tensors have one shape, the others any length.
        *static: Hashable values.

    Returns:
        The traced function of the tensors. It is the same for the same arguments.
    """
    function = functools.partial(function, *static)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    @functools.cache
    def traced(in_xla, _device_int, *types):  # whatever a trace depends on
        signature = [tf.TensorSpec(shape, dtype) for dtype, shape in types]
        with tf.init_scope():
            return tf.function(
                function, signature, autograph=False, jit_compile=in_xla or None, experimental_attributes=_CALLED
            ).get_concrete_function()

    def call(*tensors):
        tensors = [tf.convert_to_tensor(t) for t in tensors]
        types = [(t.dtype, tuple(t.shape) if t.dtype == tf.int32 else (None,) * len(t.shape)) for t in tensors]
        return traced(uses_xla(), device_int(), *types)(*tensors)

    return call


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
    if keras.backend.backend() == "tensorflow" and pruned == 0 and not uses_xla():
        import tensorflow as tf

        return tf.math.multiply_no_nan(values, tf.cast(mask, values.dtype))  # faster than a choice
    return ops.where(mask > 0, values, ops.cast(pruned, values.dtype))


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
