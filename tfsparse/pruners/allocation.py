"""How a layer-scoped target is spread over the layers."""

import math
from collections.abc import Sequence


def erk(shapes: Sequence[tuple], sparsity: float) -> list[float]:
    """Erdos-Renyi-kernel allocation: density of a layer proportional to `sum(shape) / prod(shape)`, at most 1.

    Layers whose share would exceed 1 stay dense and the others take their part, so that the total is exact.
    Source: Evci et al., "RigL" (ICML 2020).

    >>> [round(1 - s, 6) for s in erk([(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)], 0.9)]
    [1.0, 0.087072, 0.088433, 1.0]
    """
    sizes, raw = [math.prod(s) for s in shapes], [sum(s) / math.prod(s) for s in shapes]
    budget, dense = (1 - sparsity) * sum(sizes), set()
    while True:
        free = [i for i in range(len(shapes)) if i not in dense]
        if not free:
            return [0.0] * len(shapes)
        scale = (budget - sum(sizes[i] for i in dense)) / sum(sizes[i] * raw[i] for i in free)
        over = [i for i in free if scale * raw[i] > 1]
        if not over:
            return [0.0 if i in dense else 1 - scale * raw[i] for i in range(len(shapes))]
        dense.add(max(over, key=lambda i: raw[i]))
