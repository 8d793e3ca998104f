"""Pruned weights stay zero by a constraint: tf_keras applies it right after each update, by any optimizer."""

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops


class KeepMasked(tf_keras.constraints.Constraint):
    """`weight = inner(weight) * mask` after every optimizer step; counts the steps.

    The constraint is applied within the compiled step and before any callback. So no checkpoint and no interrupt finds
    a pruned weight that is not zero, also in custom training loops.

    Args:
        inner: The constraint that the weight had before, or None.
        mask: Variable or tensor of the weight's shape.
        steps: Integer variable that counts the steps; None: another weight of the layer counts them.
    """

    def __init__(self, inner, mask, steps: tf.Variable | None = None):
        self.inner, self.mask, self.steps = inner, mask, steps

    def __call__(self, weight):
        if self.steps is not None:
            self.steps.assign_add(1)
        if self.inner is not None:
            weight = self.inner(weight)
        return backend_ops.masked(weight, self.mask)


def native(weight) -> tf.Variable:
    """Return the variable itself; under mixed precision a layer holds one that reads in its compute dtype."""
    return keras_internals.uncast_variable(weight)


def keep_masked(weight, mask, steps: tf.Variable | None = None) -> None:
    """Give a variable a `KeepMasked` constraint around the user's own, instead of an earlier `KeepMasked`."""
    weight = native(weight)
    inner = weight.constraint.inner if isinstance(weight.constraint, KeepMasked) else weight.constraint
    keras_internals.set_constraint(weight, KeepMasked(inner, mask, steps))
