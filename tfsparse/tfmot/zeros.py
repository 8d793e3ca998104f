"""Zeros that stay in a model without wrappers, in quantisation-aware training and in fine-tuning."""

import tensorflow as tf
import tf_keras

from tfsparse.tfmot import kernels
from tfsparse.tfmot.constraints import keep_masked, native


def keep_zeros(model: tf_keras.Model) -> tf_keras.Model:
    """Keep every weight that is zero now at zero in all further training of this model object.

        mask = weight != 0                              # once, for trainable weights of rank >= 2 with zeros
        after every optimizer step:  weight = weight * mask

    Use it for models without masks: one that `quantize_apply` made of a pruned model, or one from a file. Nothing is
    added to the model or to its files, so call it again after loading. A second call uses the zeros of that moment.
    A weight that is all zero stays free to train: no pruner empties a weight.

    Args:
        model: A built tf_keras model of any kind, without pruning wrappers; the one that is trained itself.

    Returns:
        The same model.

    Raises:
        ValueError: If the model has pruning wrappers, or no weight with zeros.

    Examples:
        >>> model = tfmot.quantization.keras.quantize_model(tfsparse.tfmot.strip_pruning(model))
        >>> tfsparse.tfmot.keep_zeros(model).compile("adam", loss=loss)
    """
    if kernels.wrappers(model):
        raise ValueError(
            f"{model.name!r} has wrappers, which keep its zeros already. To train it without them write "
            "keep_zeros(tfsparse.tfmot.strip_pruning(model))."
        )
    weights = [w for w in map(native, model.trainable_weights) if len(w.shape) > 1 and _has_zeros(w)]
    if not weights:
        raise ValueError(
            f"No trainable weight of rank >= 2 of {model.name!r} has zeros to keep: prune the model first, and call "
            "keep_zeros when its weights are there."
        )
    for weight in weights:
        keep_masked(weight, tf.not_equal(weight, 0))
    if model.train_function is not None:
        model.make_train_function(force=True)  # a step compiled by an earlier fit does not apply the masks
    return model


def _has_zeros(weight):
    return 0 < int(tf.math.count_nonzero(weight)) < weight.shape.num_elements()
