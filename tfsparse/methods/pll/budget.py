"""How many of the smallest weights fit into a budget for the sum of their squares."""

import functools

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops

_INFINITY = 0x7F800000  # the bits of infinity: above every finite magnitude


def num_within_budget(weights, budget: float, masks, most: int | None = None) -> tuple[int, float]:
    """Return how many of the smallest weights can be pruned so that the sum of their squares is at most `budget`.

    The weights of all tensors compete. The number is found by bisection over the bits of |w|; sums are float32. If not
    all weights of equal magnitude fit, as many as possible are counted.

    Args:
        weights: Tensors.
        budget: Largest sum of squares. If it is below 0 or NaN, the result is 0.
        masks: Tensors of the same shapes. Only weights whose mask is not 0 are counted.
        most: Largest number that is counted. Default: None, all weights that live.

    Returns:
        The number, and the sum of the squares of so many of the smallest weights.

    Examples:
        >>> num_within_budget([np.array([0.5, -2.0]), np.array([0.0, 3.0])], 5.0, [np.ones(2), np.array([0.0, 1.0])])
        (2, 4.25)
    """
    budget = ops.convert_to_tensor(np.float32(min(budget, 3e38)))
    most = ops.convert_to_tensor(np.int32(np.iinfo("int32").max if most is None else most))
    weights, masks = [backend_ops.read(w) for w in weights], [backend_ops.read(m) for m in masks]
    number, squares = _compiled(_num_within_budget)(weights, budget, masks, most)
    return int(number), float(squares)


_compiled = functools.cache(backend_ops.compiled)


def _num_within_budget(weights, budget, masks, most):
    weights = [ops.cast(w, "float32") for w in weights]
    keys = [ops.where(m > 0, ops.view(ops.abs(w), "int32"), _INFINITY) for w, m in zip(weights, masks, strict=True)]

    def below(key):
        """Return the number of weights below a key, and the sum of their squares."""
        are_below = [k < key for k in keys]
        squares = [ops.sum(ops.where(b, ops.square(w), 0.0)) for b, w in zip(are_below, weights, strict=True)]
        return sum(ops.sum(ops.cast(b, "int32")) for b in are_below), sum(squares)

    def bisect(_, bounds):
        low, high = bounds  # the weights below `low` fit, those below `high` may not
        middle = low + (high - low + 1) // 2
        number, squares = below(middle)
        fits = ops.logical_and(squares <= budget, number <= most)
        return ops.where(fits, middle, low), ops.where(fits, high, middle - 1)

    bounds = ops.convert_to_tensor(0, "int32"), ops.convert_to_tensor(_INFINITY, "int32")
    key, _ = ops.fori_loop(0, 32, bisect, bounds)
    (number, used), (number_with_ties, _) = below(key), below(key + 1)
    square = ops.square(ops.view(key, "float32"))
    num_ties = ops.cast(ops.minimum(number_with_ties, most) - number, "float32")
    fitting = ops.where(square > 0, ops.floor((budget - used) / square), num_ties)
    fitting = ops.where(num_ties > 0, ops.minimum(fitting, num_ties), 0.0)
    number, used = number + ops.cast(fitting, "int32"), used + ops.where(fitting > 0, fitting * square, 0.0)
    return ops.where(budget >= 0, number, 0), ops.where(budget >= 0, used, 0.0)
