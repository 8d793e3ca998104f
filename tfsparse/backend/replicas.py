"""All that the package knows about replicas: those of `tf.distribute`, and the devices and processes of JAX.

On JAX a variable is one logical array for all devices, so gradients need no reduction.
"""

import contextlib
import functools
import zlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops


def strategy_scope(owner):
    """Return the scope of the strategy under which a model or an optimizer was created, as a context manager."""
    strategy = keras_internals.creation_strategy(owner)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def global_gradients(gradients: Sequence) -> list:
    """Return the gradients of the global batch from those of this replica.

    They are summed: Keras has already divided the loss by the number of replicas.
    """
    if not _on_tensorflow():
        return list(gradients)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))


def divide_by_replicas(gradient):
    """Divide a global gradient by the number of replicas, for an optimizer that will sum it over the replicas again."""
    if not _on_tensorflow():
        return gradient
    import tensorflow as tf

    return gradient / tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, gradient.dtype)


def sum_of_shares(share):
    """Return the global gradient from what `divide_by_replicas` made of it."""
    if not _on_tensorflow():
        return share
    import tensorflow as tf

    return share * tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, share.dtype)


def once(function: Callable, *arguments) -> None:
    """Call a function once for all replicas, in cross-replica context, where it can assign to all copies of a variable.

    Args:
        function: Called with `arguments`.
        *arguments: Nests of tensors that are equal on all replicas.
    """
    if not _on_tensorflow():
        function(*arguments)
        return
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:
        function(*arguments)
        return

    def merged(strategy, *values):
        function(*tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], values))

    context.merge_call(merged, args=arguments)


def update(variable, function: Callable, *arguments):
    """Assign `function(variable, *arguments)` to a variable, on each replica from its own copy; call it inside `once`.

    Returns:
        In a graph of TensorFlow the operations that assign, one per replica.
    """
    native, arguments = _native(variable), tuple(map(_native, arguments))
    if not _on_tensorflow():
        variable.assign(function(native, *arguments))
        return []
    operations = []

    def on_replica(own, *arguments):
        operations.append(own.assign(function(own, *arguments), read_value=False))

    if hasattr(native, "values"):  # one copy per replica
        _strategy(native).extended.update(native, on_replica, args=arguments, group=False)
    else:
        on_replica(native, *arguments)
    return operations


def assign(variable, value) -> list:
    """Assign a value to a variable on all replicas; call it inside `once`. Returns what `update` does."""
    return update(variable, lambda _, v: v, value)


def copies(value) -> list:
    """Return the copies of a variable on the replicas of this process, on their devices; else `[value]`."""
    native = _native(value)
    if not _is_jax_array(native):
        return list(getattr(native, "values", [native]))
    if len(native.sharding.addressable_devices) == 1:  # with several processes JAX fails to list some shards
        return [native.addressable_data(0)]
    return [s.data for s in native.addressable_shards] if native.is_fully_replicated else [native]


def replica_values(variable) -> list[np.ndarray]:
    """Return the value of a variable on each replica of this process."""
    return [np.array(v) for v in copies(variable)]


def num_replicas(value) -> int:
    """Return how many copies of a variable there are in all processes.

    With 1 there is nothing to compare or to send. A variable that JAX has cut into parts counts as one copy.
    """
    native = _native(value)
    if _is_jax_array(native):
        return len(native.sharding.device_set) if native.is_fully_replicated else 1
    in_strategy = _strategy(native).num_replicas_in_sync if _on_tensorflow() else 1
    return max(in_strategy, len(copies(native)))


def exchange(message: bytes, value) -> list[bytes]:
    """Return the messages of all processes. All processes call it together, with messages of the same length.

    Args:
        message: Message of this process.
        value: On TensorFlow the processes are those of the strategy of this variable.

    Returns:
        A message per process, in the order of the processes.
    """
    if keras.backend.backend() == "jax":
        return _exchange_on_jax(message)
    if not _on_tensorflow():
        return [message]
    import tensorflow as tf

    strategy = _strategy(_native(value))
    total = strategy.num_replicas_in_sync
    local = 1 if total == 1 else len(strategy.extended.worker_devices)  # replicas of this process
    if total == local:
        return [message]
    words = np.frombuffer(message.ljust(-(-len(message) // 4) * 4, b"\0"), np.int32)  # all_gather takes no bytes
    gathered = strategy.experimental_local_results(_all_gather(strategy)(tf.constant(words)))[0].numpy()
    return [row.tobytes()[: len(message)] for row in gathered[::local]]


def _exchange_on_jax(message):
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return [message]
    return [row.tobytes() for row in multihost_utils.process_allgather(np.frombuffer(message, np.uint8))]


@functools.cache  # traced once
def _all_gather(strategy):
    import tensorflow as tf

    def on_replica(words):
        return tf.distribute.get_replica_context().all_gather(words[None], axis=0)

    signature = [tf.TensorSpec([None], tf.int32)]
    return tf.function(lambda words: strategy.run(on_replica, (words,)), signature, autograph=False)


def copy_from_first(variable) -> None:
    """Assign the value of the first replica of all processes to all replicas."""
    value = replica_values(variable)[0]
    first = exchange(value.tobytes(), variable)[0]
    assign(variable, np.frombuffer(first, value.dtype).reshape(value.shape))


def digest(masks: Sequence) -> int:
    """Return the crc32 of the packed bits of masks. Equal masks have equal digests, and a digest has 4 bytes.

    Examples:
        >>> digest([np.array([1.0, 0.0])]) == digest([np.array([1.0, 1.0])])
        False
    """
    return zlib.crc32(backend_ops.packbits(masks))


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def _strategy(native):
    """Return the strategy of a variable, which after `fit` is no longer in scope, or else the present one."""
    import tensorflow as tf

    return getattr(native, "distribute_strategy", None) or tf.distribute.get_strategy()


def _is_jax_array(native) -> bool:
    return keras.backend.backend() == "jax" and hasattr(native, "sharding")


def _native(value):
    """Return the backend's own variable or tensor inside a Keras 3 variable, or the value as it is."""
    return value.value if isinstance(value, keras.Variable) else value
