"""Zeros that stay in a model without wrappers, whoever trains it next: quantisation-aware training, fine-tuning."""

import tensorflow as tf
import tf_keras

from tfsparse.backend import ops as backend_ops
from tfsparse.tfmot import kernels
from tfsparse.tfmot.pruning import constrain, native


def keep_zeros(model: tf_keras.Model) -> tf_keras.Model:
    """Let every weight that is zero now stay zero in all training of this model object.

        mask = weight != 0                              # now, once, for trainable weights of rank >= 2 with zeros
        after every optimizer step:  weight = weight * mask

    It is for models that know of no mask any more: one that `quantize_apply` made of a pruned one, or one from a file.
    Nothing is added to the model or to its files, so write it again after loading. A second call looks anew for zeros.
    Weights that are all zero are free to train: no pruner empties a weight.

    Args:
        model: any tf_keras model, the one that is trained itself, that is built and has no pruning wrappers.

    Returns: the same model.

    Raises: ValueError if it has wrappers, or no weight with zeros.

    >>> model = tfmot.quantization.keras.quantize_model(tfsparse.tfmot.strip_pruning(model))
    >>> tfsparse.tfmot.keep_zeros(model).compile("adam", loss=loss)
    """
    if kernels.wrappers(model):
        raise ValueError(
            f"{model.name!r} has wrappers, which keep its zeros already. To train it without them write "
            "keep_zeros(tfsparse.tfmot.strip_pruning(model))."
        )
    found = [w for w in map(native, model.trainable_weights) if len(w.shape) > 1 and _has_zeros(w)]
    if not found:
        raise ValueError(
            f"No trainable weight of rank >= 2 of {model.name!r} has zeros to keep: prune the model first, and call "
            "keep_zeros when its weights are there."
        )
    for weight in found:
        constrain(weight, KeepZeros(_other(weight.constraint), tf.not_equal(weight, 0)))
    if model.train_function is not None:
        model.make_train_function(force=True)  # the step of an earlier fit does not know of them
    return model


class KeepZeros(tf_keras.constraints.Constraint):
    """`weight = inner(weight) * mask`: a constraint, since Keras applies it right after each update.

    Args:
        inner: the constraint that the weight had, or None.
        mask: boolean tensor, False where the weight is zero.
    """

    def __init__(self, inner, mask: tf.Tensor):
        self.inner, self.mask = inner, mask

    def __call__(self, weight):
        return backend_ops.masked(weight if self.inner is None else self.inner(weight), self.mask)


def _has_zeros(weight):
    living = int(tf.math.count_nonzero(weight))
    return 0 < living < weight.shape.num_elements()


def _other(constraint):
    """What a former call found."""
    return constraint.inner if isinstance(constraint, KeepZeros) else constraint
