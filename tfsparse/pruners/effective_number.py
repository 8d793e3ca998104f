"""How many weights carry a layer, from their magnitudes alone."""

import numpy as np


def effective_number(scores: np.ndarray) -> int:
    """Return the effective number of entries of an array.

        w = |scores| / sum |scores|;  floor(1 / sum w**2)

    It is the number of entries if all are equal, and 1 if one of them is not zero.

    Args:
        scores: Numbers of any shape.

    Returns:
        A number from 1 to the entries that are not zero; 0 if all are zero.

    Source:
        "Effective Model Pruning" (ICML 2026, arXiv 2509.25606).

    Examples:
        >>> effective_number(np.array([3.0, -1.0, 1.0, 0.0]))
        2
    """
    magnitudes = np.abs(np.asarray(scores, "float64"))
    total = magnitudes.sum()
    return int(total * total / np.square(magnitudes).sum() + 1e-9) if total else 0


def sparsity_prior(scores: np.ndarray) -> float:
    """Return the fraction of entries beyond the effective number of them."""
    return 1 - effective_number(scores) / np.size(scores)
