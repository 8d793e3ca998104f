"""GSM's selection of gradients and its checks, for the optimizers of both roads."""

import math
import warnings

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.masks import topk

ENOUGH = 8.0  # exp(-8) = 0.0003: what is left of a passive weight that no cut would miss


def active_gradients(weights, gradients, compression: float) -> list:
    """The gradients of the `int(entries / compression)` most salient entries of all weights, 0 for the others."""
    if compression == 1:
        return list(gradients)
    entries = sum(math.prod(w.shape) for w in weights)
    salience = [ops.abs(w * ops.cast(g, w.dtype)) for w, g in zip(weights, gradients, strict=True)]
    chosen = topk.largest_mask(salience, max(int(entries / compression), 1))
    return [backend_ops.masked(g, c) for g, c in zip(gradients, chosen, strict=True)]


def check_options(momentum: float, weight_decay: float, compression: float) -> None:
    """Refuse what cannot prune."""
    if not 0 <= momentum < 1:
        raise ValueError(f"GSM got momentum={momentum!r}: expected a number in [0, 1), for example momentum=0.98.")
    if not weight_decay > 0:
        raise ValueError(
            f"GSM got weight_decay={weight_decay!r}: it is what passive weights vanish by, so it must be positive, for "
            "example weight_decay=1e-4."
        )
    if not compression >= 1:
        raise ValueError(
            f"GSM got compression={compression!r}: expected entries over entries kept, at least 1, for example "
            "compression=10 for a sparsity of 0.9."
        )


def decay_exponent(rate, momentum: float, weight_decay: float, first: int, steps: int) -> float:
    """The sum over `steps` steps from `first` on; of a rate that is a schedule, at a thousand of them."""
    if callable(rate):
        rate = np.mean([float(rate(k)) for k in np.linspace(first, first + steps - 1, min(steps, 1000))])
    return steps * float(ops.convert_to_numpy(rate)) * weight_decay / (1 - momentum)


def warn_if_short(exponent: float, momentum: float, compression: float) -> None:
    """The warning; `exponent` is what `decay_exponent` returns."""
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
