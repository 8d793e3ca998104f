"""The rules of activation density, as functions of numbers: widths, ends of stages, channels that stay."""

import math
from collections.abc import Sequence

import numpy as np

SATURATED_FRACTION = 0.95  # of the groups must be saturated
MAX_DENSITY = 0.9  # a network with this density or a higher one is not resized


def new_width(width: int, density: float, smallest: int = 1, multiple: int = 1, min_kept: float = 0.0) -> int:
    """Return the width of a layer after a resize.

        share = max(density, min_kept)
        multiple * floor(width * share / multiple + 1/2), at least `smallest`, at most `width`

    A half is rounded up. Python's `round` would round it to the even number.

    Args:
        width: Number of channels now.
        density: Density of the layer, in [0, 1].
        smallest: Smallest width. Default: 1.
        multiple: The width is a multiple of it, unless that would make the layer wider. Default: 1.
        min_kept: Smallest fraction of the width that is kept, in [0, 1]. Default: 0.

    Returns:
        A number of channels.

    Source:
        Foldy-Porto, Venkatesha, Panda (arXiv 2002.02949): the width becomes width * density. The rest is ours.

    Examples:
        >>> new_width(64, 0.4), new_width(5, 0.5), new_width(64, 0.4, multiple=8), new_width(64, 0.01, smallest=8)
        (26, 3, 24, 8)
    """
    least = multiple * math.ceil(smallest / multiple)
    return min(width, max(least, multiple * math.floor(width * max(density, min_kept) / multiple + 0.5)))


def is_saturated(densities: Sequence, window: int, tolerance: float) -> bool:
    """Return whether the densities of at least 95 % of the groups have stopped changing.

        max - min over the last `window` epochs < tolerance

    Args:
        densities: One row per epoch since the last resize, one column per group.
        window: Number of epochs.
        tolerance: Difference of densities.

    Returns:
        False also if there are fewer epochs than `window`.

    Examples:
        >>> is_saturated([[0.9], [0.500], [0.505]], window=2, tolerance=0.01)
        True
    """
    if len(densities) < window:
        return False
    last = np.asarray(densities[-window:], float)
    return bool(np.mean(last.max(axis=0) - last.min(axis=0) < tolerance) >= SATURATED_FRACTION)


def is_due(
    densities: Sequence, window: int, tolerance: float, min_epochs: int, max_epochs: int, epochs_left: int
) -> bool:
    """Return whether the stage ends now with a resize.

        min_epochs <= epochs of the stage  and  min_epochs <= epochs_left
        and (is_saturated  or  max_epochs <= epochs of the stage)

    Args:
        densities: One row per epoch of the stage, one column per group.
        window: Number of epochs, as in `is_saturated`.
        tolerance: Difference of densities, as in `is_saturated`.
        min_epochs: Smallest number of epochs of a stage.
        max_epochs: Largest number of epochs of a stage.
        epochs_left: Number of epochs that the training still has.

    Returns:
        True or False.

    Examples:
        >>> is_due([[0.9], [0.7]], 2, 0.01, 1, max_epochs=2, epochs_left=1)
        True
    """
    if min(len(densities), epochs_left) < min_epochs:
        return False
    return len(densities) >= max_epochs or is_saturated(densities, window, tolerance)


def densest_channels(densities: Sequence[float], norms: Sequence[float], count: int) -> np.ndarray:
    """Return the channels with the highest densities. Ties: larger norm first, then lower index.

    Args:
        densities: Density of each channel.
        norms: Norm of the kernels of each channel.
        count: Number of channels.

    Returns:
        Indices of channels, rising.

    Examples:
        >>> densest_channels([0.1, 0.5, 0.5, 0.9], [9.0, 1.0, 2.0, 0.0], 2)
        array([2, 3])
    """
    order = np.lexsort((-np.asarray(norms), -np.asarray(densities)))  # stable, and the last key counts first
    return np.sort(order[:count])
