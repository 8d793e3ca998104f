"""Everything the package knows of replicas: those of `tf.distribute`, and the devices and processes of JAX, where a
variable is one logical array and nothing is to be reduced."""

import functools
import zlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfsparse.backend import ops as backend_ops


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def strategy_scope(owner):
    """The scope of the strategy that a model or an optimizer was made under."""
    import contextlib

    strategy = getattr(owner, "distribute_strategy", None) or getattr(owner, "_distribution_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


def global_gradients(gradients: Sequence) -> list:
    """Gradients of the global batch from those of this replica; Keras has divided the loss by the replicas already."""
    if not _on_tensorflow():
        return list(gradients)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))


def divide_by_replicas(gradient):
    """This replica's share of a gradient that is global already, for an optimizer that will sum over replicas again."""
    if not _on_tensorflow():
        return gradient
    import tensorflow as tf

    return gradient / tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, gradient.dtype)


def once(function: Callable, *arguments) -> None:
    """Run `function(*arguments)` once for all replicas, where variables of all of them can be assigned together."""
    if not _on_tensorflow():
        function(*arguments)
        return
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:
        function(*arguments)
        return

    def merged(strategy, *values):
        # equal on all replicas by now, so the first one's stand for all
        function(*tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], values))

    context.merge_call(merged, args=arguments)


def update(variable, function: Callable, argument) -> None:
    """`variable <- function(variable, argument)`, on every replica with its own copy; call it inside `once`."""
    if not _on_tensorflow():
        variable.assign(function(_native(variable), _native(argument)))
        return
    native = _native(variable)
    extended = _strategy(native).extended
    extended.update(native, lambda v, a: v.assign(function(v, a)), args=(_native(argument),), group=False)


def assign(variable, value) -> None:
    """`variable <- value`, on every replica; call it inside `once`."""
    update(variable, lambda _, v: v, value)


def copies(value) -> list:
    """The copy of a variable on each replica of this process, where it is; of anything else the thing itself."""
    native = _native(value)
    if not _is_jax_array(native):
        return list(getattr(native, "values", [native]))
    if len(native.sharding.addressable_devices) == 1:  # of several processes: JAX fails to list the shard of some
        return [native.addressable_data(0)]
    return [s.data for s in native.addressable_shards] if native.is_fully_replicated else [native]


def replica_values(variable) -> list[np.ndarray]:
    """The value of a variable on each replica of this process."""
    return [np.array(v) for v in copies(variable)]


def num_replicas(value) -> int:
    """How many copies of a variable there are in all processes; 1: there is nothing to compare or to send. A variable
    that JAX has cut into parts counts as one."""
    native = _native(value)
    if _is_jax_array(native):
        return len(native.sharding.device_set) if native.is_fully_replicated else 1
    elsewhere = _strategy(native).num_replicas_in_sync if _on_tensorflow() else 1
    return max(elsewhere, len(copies(native)))


def exchange(message: bytes, value) -> list[bytes]:
    """The messages of all processes, on TensorFlow of the strategy that holds `value`, in the processes' order. All of
    them call this together, each with a message of the same length."""
    if keras.backend.backend() == "jax":
        return _exchange_on_jax(message)
    if not _on_tensorflow():
        return [message]
    import tensorflow as tf

    strategy = _strategy(_native(value))
    replicas = strategy.num_replicas_in_sync
    here = 1 if replicas == 1 else len(strategy.extended.worker_devices)  # in one process; all of them send the same
    if replicas == here:
        return [message]
    words = np.frombuffer(message.ljust(-(-len(message) // 4) * 4, b"\0"), np.int32)  # bytes are not exchanged
    gathered = strategy.experimental_local_results(_gather(strategy)(tf.constant(words)))[0].numpy()
    return [row.tobytes()[: len(message)] for row in gathered[::here]]


def _exchange_on_jax(message):
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return [message]
    return [row.tobytes() for row in multihost_utils.process_allgather(np.frombuffer(message, np.uint8))]


@functools.cache  # traced once
def _gather(strategy):
    import tensorflow as tf

    def of_replica(words):
        return tf.distribute.get_replica_context().all_gather(words[None], axis=0)

    signature = [tf.TensorSpec([None], tf.int32)]
    return tf.function(lambda words: strategy.run(of_replica, (words,)), signature, autograph=False)


def copy_from_first(variable) -> None:
    """Give all replicas in all processes the value that the first one has."""
    value = replica_values(variable)[0]
    first = exchange(value.tobytes(), variable)[0]
    assign(variable, np.frombuffer(first, value.dtype).reshape(value.shape))


def _strategy(native):
    """A variable's own strategy: after fit nobody is in its scope. Of anything else the present one."""
    import tensorflow as tf

    return getattr(native, "distribute_strategy", None) or tf.distribute.get_strategy()


def _is_jax_array(native) -> bool:
    return keras.backend.backend() == "jax" and hasattr(native, "sharding")


def _native(value):
    """The engine's own variable or tensor inside a Keras 3 variable; anything else as it is."""
    return value.value if isinstance(value, keras.Variable) else value


def digest(masks: Sequence) -> int:
    """crc32 of the packed bits of some masks: equal masks, equal digests; 4 bytes instead of the masks travel.

    >>> digest([np.array([1.0, 0.0])]) == digest([np.array([1.0, 1.0])])
    False
    """
    return zlib.crc32(backend_ops.packbits(masks))
