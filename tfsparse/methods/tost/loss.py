"""Cross-entropy with smoothed labels."""

import keras
from keras import ops


def smoothed_labels(labels, num_classes: int, alpha: float):
    """Return the probabilities of the classes that stand for labels.

        1 - alpha                      for the class of the label
        alpha / (num_classes - 1)      for each other class

    Args:
        labels: Tensor of integers, or one-hot with a last axis of size `num_classes`.
        num_classes: Number of classes, >= 2.
        alpha: Probability of all other classes together, in [0, 1).

    Returns:
        A float32 tensor with a last axis of size `num_classes`.

    Examples:
        >>> smoothed_labels(np.array([1]), num_classes=3, alpha=0.1)
        array([[0.05, 0.9 , 0.05]], dtype=float32)
    """
    other = alpha / (num_classes - 1)
    return other + (1 - alpha - other) * ops.cast(labels, "float32")


@keras.saving.register_keras_serializable(package="tfsparse")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy against labels that are not quite sure, for integer and for one-hot labels.

        target = 1 - alpha                for the class of the label
                 alpha / (classes - 1)    for each other class
        loss   = -sum(target * log(probability))

    This is ToST's form. `keras.losses.CategoricalCrossentropy(label_smoothing=a)` gives `a / classes` to every class,
    also that of the label, and so is equal for `a = alpha * classes / (classes - 1)`.

    Args:
        alpha: Probability of all other classes together, in [0, 1). Default: 0.1.
        from_logits: Whether the outputs of the model are logits, not probabilities. Default: False.
        **kwargs: Arguments of `keras.losses.Loss`: `reduction`, `name`, `dtype`.

    Raises:
        ValueError: If `alpha` is not in [0, 1). At the first call, if the model has one output, or if labels have
            another shape than one-hot or integer ones.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022), and the authors' code.

    Examples:
        >>> model.compile("sgd", tfsparse.SmoothedCrossentropy(from_logits=True), metrics=["accuracy"])
    """

    def __init__(self, alpha: float = 0.1, from_logits: bool = False, **kwargs):
        super().__init__(**{"name": "smoothed_crossentropy"} | kwargs)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < 1:
            raise ValueError(f"alpha={alpha!r}: expected a probability in [0, 1), for example alpha=0.1.")
        self.alpha, self.from_logits = alpha, from_logits

    def call(self, y_true, y_pred):
        targets = smoothed_labels(_one_hot(y_true, y_pred), y_pred.shape[-1], self.alpha)
        return ops.categorical_crossentropy(ops.cast(targets, y_pred.dtype), y_pred, from_logits=self.from_logits)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "from_logits": self.from_logits}


def _one_hot(labels, outputs):
    """Return labels of one of the known forms as one-hot ones of the shape of the outputs."""
    num_classes, given, shape = outputs.shape[-1], tuple(labels.shape), tuple(outputs.shape)
    if num_classes >= 2 and given[1:] == shape[1:]:
        return labels
    if num_classes >= 2 and given[1:] in (shape[1:-1], (*shape[1:-1], 1)):
        if len(given) == len(shape):
            labels = ops.squeeze(labels, -1)
        return ops.one_hot(ops.cast(labels, "int32"), num_classes)
    raise ValueError(
        f"SmoothedCrossentropy got labels of shape {given} for outputs of shape {shape}: expected one output for each "
        "of 2 or more classes, and one-hot labels of their shape or integers without the last axis."
    )
