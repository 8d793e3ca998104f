"""Everything the package knows of `tf.distribute`. On JAX a variable is one logical array and nothing is to be done."""

import zlib
from collections.abc import Callable, Sequence

import keras
import numpy as np


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


def share(gradient):
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
    import tensorflow as tf

    native = _native(variable)
    # the variable's own strategy: after fit nobody is in its scope
    strategy = getattr(native, "distribute_strategy", None) or tf.distribute.get_strategy()
    strategy.extended.update(native, lambda v, a: v.assign(function(v, a)), args=(_native(argument),), group=False)


def replica_values(variable) -> list[np.ndarray]:
    """The value of a variable on each replica of this process."""
    native = _native(variable)
    return [np.array(v) for v in getattr(native, "values", [native])]


def _native(value):
    """The engine's own variable or tensor inside a Keras 3 variable; anything else as it is."""
    return value.value if isinstance(value, keras.Variable) else value


def digest(masks: Sequence) -> int:
    """crc32 of the packed bits of some masks: equal masks, equal digests; 4 bytes instead of the masks travel.

    >>> digest([np.array([1.0, 0.0])]) == digest([np.array([1.0, 1.0])])
    False
    """
    crc = 0
    for mask in masks:
        crc = zlib.crc32(np.packbits(np.asarray(mask) != 0).tobytes(), crc)
    return crc
