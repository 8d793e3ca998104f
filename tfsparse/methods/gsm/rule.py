"""GSM's selection of gradients and its checks, for the optimizers of both roads."""

import math
import warnings

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import topk

ENOUGH = 8.0  # exponent at which exp(-8) = 0.0003 of a passive weight is left, so that the cut costs nothing


def active_gradients(weights, gradients, compression: float) -> list:
    """Return the gradients of the `int(entries / compression)` most salient entries of all weights, 0 elsewhere.

        salience = |weight * gradient|

    Args:
        weights: List of tensors.
        gradients: List of tensors of the same shapes.
        compression: Entries over entries that are active, >= 1.

    Returns:
        List of tensors. All entries that tie at the last place are active.

    Source:
        Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).
    """
    if compression == 1:
        return list(gradients)
    entries = sum(math.prod(w.shape) for w in weights)
    salience = [ops.abs(w * ops.cast(g, w.dtype)) for w, g in zip(weights, gradients, strict=True)]
    active = topk.largest_mask(salience, max(int(entries / compression), 1))
    return [backend_ops.masked(g, a) for g, a in zip(gradients, active, strict=True)]


def check_options(momentum: float, weight_decay: float, compression: float) -> None:
    """Refuse options with which nothing is pruned.

    Raises:
        ValueError: If one of them is out of its range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"GSM got momentum={momentum!r}: expected a number in [0, 1), for example momentum=0.98.")
    if not weight_decay > 0:
        raise ValueError(
            f"GSM got weight_decay={weight_decay!r}: expected a positive number, for example weight_decay=1e-4. "
            "Passive weights vanish only by weight decay."
        )
    if not compression >= 1:
        raise ValueError(
            f"GSM got compression={compression!r}: expected entries over entries kept, at least 1, for example "
            "compression=10 for a sparsity of 0.9."
        )


def decay_exponent(rate, momentum: float, weight_decay: float, first: int, steps: int) -> float:
    """Return `sum of rate * weight_decay / (1 - momentum)` over `steps` steps from `first` on.

    A learning rate schedule is evaluated at a thousand of these steps at most.
    """
    if callable(rate):
        rate = np.mean([float(rate(k)) for k in np.linspace(first, first + steps - 1, min(steps, 1000))])
    return steps * float(ops.convert_to_numpy(rate)) * weight_decay / (1 - momentum)


def warn_if_short(exponent: float, momentum: float, compression: float) -> None:
    """Warn if passive weights keep too much of their size; `exponent` is what `decay_exponent` returns."""
    if compression == 1 or exponent >= ENOUGH:
        return
    enough = math.ceil(1e4 * (1 - (1 - momentum) * exponent / ENOUGH)) / 1e4
    higher = f"Write momentum={enough:.4f}, or train" if enough < 1 else "Train"
    warnings.warn(
        "The cut will not be lossless: sum of learning_rate * weight_decay / (1 - momentum) over this fit is "
        f"{exponent:.3g}, so weights that see no gradient keep {math.exp(-exponent):.2%} of their size. It should be "
        f"at least {ENOUGH:g}. {higher} {ENOUGH / max(exponent, 1e-9):.3g} times as long.",
        stacklevel=3,
    )
