"""Feature relevance scores: golden functions of NumPy arrays."""

import numpy as np

from tfsparse.structured import importance


def class_weights(accuracies) -> np.ndarray:
    """Return the weights of classes, which are higher for classes of low accuracy.

        weight = sigmoid(max(accuracies) / accuracy)

    Args:
        accuracies: Accuracy of each class, in [0, 1]. NaN for a class without examples.

    Returns:
        One number per class, in (0.7, 1]: 1 for a class of accuracy 0, NaN for a class without examples.

    Source:
        Aketi, Roy, Raghunathan, Roy (arXiv 2002.09958).

    Examples:
        >>> class_weights([1.0, 0.5, 0.0]).round(3).tolist()
        [0.731, 0.881, 1.0]
    """
    accuracies = np.asarray(accuracies, "float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(accuracies == 0, np.inf, np.nanmax(accuracies) / accuracies)
    return np.where(np.isnan(accuracies), np.nan, 1 / (1 + np.exp(-ratio)))


def channel_relevance(relevance, labels, predictions, num_classes: int) -> np.ndarray:
    """Return the relevance of channels over examples.

        | mean over the classes c of  weight of c * mean over the examples of c of their relevance |

    Args:
        relevance: One row per example, one column per channel.
        labels: Class of each example.
        predictions: Class that the model gives to each example.
        num_classes: Number of classes.

    Returns:
        One number per channel. Classes without examples do not count.

    Source:
        Aketi, Roy, Raghunathan, Roy (arXiv 2002.09958).
    """
    of_class = labels == np.arange(num_classes)[:, None]
    counts = of_class.sum(axis=1)
    present, is_right = counts > 0, (labels == predictions)[None]
    accuracies = np.where(present, (of_class & is_right).sum(axis=1) / np.maximum(counts, 1), np.nan)
    means = (of_class[present] @ relevance.astype("float64")) / counts[present][:, None]
    return np.abs((class_weights(accuracies)[present][:, None] * means).mean(axis=0))


def kept_channels(groups, scores: dict, count: int, smallest: int) -> dict[str, list[int]]:
    """Return what stays when the channels of the lowest scores of all groups together go.

    Of each group at least the `smallest` best stay, and the best channel of every layer. Ties: lower index stays.

    Args:
        groups: The `Group`s.
        scores: `{name of a group: one score per channel}`.
        count: Number of channels that go. Fewer go if no more may.
        smallest: Smallest width of a group.

    Returns:
        `{name of a group: indices}` of the groups that lose channels.
    """
    candidates = []
    for place, group in enumerate(groups):
        values = scores[group.name]
        spared = max(smallest, len(importance.indispensable(group, values)))
        order = importance.order(group, values)[spared:]
        candidates += [(values[channel], place, -channel) for channel in order.tolist()]
    removed = {(place, -negative) for _, place, negative in sorted(candidates)[:count]}
    kept = {
        group.name: [c for c in range(len(group)) if (place, c) not in removed] for place, group in enumerate(groups)
    }
    return {group.name: kept[group.name] for group in groups if len(kept[group.name]) < len(group)}


def class_indices(labels, num_classes: int) -> np.ndarray:
    """Return the class of each example.

    Args:
        labels: Classes, or one-hot rows.
        num_classes: Number of classes.

    Raises:
        ValueError: If the labels are neither.
    """
    array = np.asarray(labels)
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim == 2 and flat.shape[1] == num_classes and np.all(flat.max(axis=1) > 0):
        return flat.argmax(axis=1)
    if flat.ndim == 1 and np.all((flat == np.floor(flat)) & (flat >= 0) & (flat < num_classes)):
        return flat.astype("int64")
    raise ValueError(
        f"Labels of shape {array.shape} are no classes of a model with {num_classes} outputs: expected whole numbers "
        f"from 0 to {num_classes - 1}, or rows with one number per class, as in fit(x, y)."
    )
