"""How the sparsity of a layer scope is spread over the weights."""

import math
from collections.abc import Sequence


def erk(shapes: Sequence[tuple], sparsity: float) -> list[float]:
    """Return the sparsity of each weight by the Erdos-Renyi-kernel rule.

        1 - sparsity of a weight = min(scale * sum(shape) / prod(shape), 1)
        scale: such that all weights together have the sparsity

    A weight that would be kept by more than 1 stays dense, and the other weights are pruned more.

    Args:
        shapes: Shapes of the weights.
        sparsity: Fraction of zeros of all weights together, in [0, 1).

    Returns:
        A sparsity in [0, 1) for each weight.

    Source:
        Evci et al., "Rigging the Lottery: Making All Tickets Winners" (ICML 2020), section 3.

    Examples:
        >>> [round(1 - s, 6) for s in erk([(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)], 0.9)]
        [1.0, 0.087072, 0.088433, 1.0]
    """
    sizes, ratios = [math.prod(s) for s in shapes], [sum(s) / math.prod(s) for s in shapes]
    num_kept, dense = (1 - sparsity) * sum(sizes), set()
    while True:
        sparse = [i for i in range(len(shapes)) if i not in dense]
        if not sparse:
            return [0.0] * len(shapes)
        scale = (num_kept - sum(sizes[i] for i in dense)) / sum(sizes[i] * ratios[i] for i in sparse)
        over = [i for i in sparse if scale * ratios[i] > 1]
        if not over:
            return [0.0 if i in dense else 1 - scale * ratios[i] for i in range(len(shapes))]
        dense.add(max(over, key=lambda i: ratios[i]))
