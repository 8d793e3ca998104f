"""One-Cycle Pruning."""

import math

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules

_MAX_EXPONENT = 88  # exp of it is nearly the largest float32


@schedules.register
class OneCycle(Schedule):
    """One-Cycle Pruning: one sigmoid from the first step to the last.

        progress(p) = (1 + exp(-alpha + beta)) / (1 + exp(-alpha p + beta))

    `p` is the position between `start` and `end`, in [0, 1]. The sparsity rises fastest at p = beta / alpha. With the
    defaults progress(0) is 0.0067, not 0.

    Args:
        alpha: Steepness of the sigmoid, > 0. Default: 14.0.
        beta: Position of the sigmoid times `alpha`. Default: 5.0; the library fasterai uses 6.
        start: Fraction of training at which pruning starts, in [0, 1). Default: 0.0.
        end: Fraction of training at which the target is reached, in (start, 1]. Default: 1.0.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If not 0 <= start < end <= 1, if `updates` is not a positive integer or None, or if `alpha` or
            `beta` is out of range.

    Source:
        Hubens et al., "One-Cycle Pruning: Pruning ConvNets Under a Tight Training Budget" (ICIP 2022).

    Examples:
        >>> round(OneCycle()(0.5), 6)
        0.880906
    """

    def __init__(
        self,
        alpha: float = 14.0,
        beta: float = 5.0,
        *,
        start: float = 0.0,
        end: float = 1.0,
        updates: int | None = 1000,
    ):
        super().__init__(start, end, updates=updates)
        if not (0 < alpha < math.inf and -math.inf < beta < alpha + _MAX_EXPONENT):
            raise ValueError(
                f"OneCycle got alpha={alpha}, beta={beta}: expected finite numbers with alpha > 0 and "
                f"beta < alpha + {_MAX_EXPONENT}, for example OneCycle(alpha=14, beta=5)."
            )
        self.alpha, self.beta = alpha, beta

    def progress(self, p):
        return (1 + math.exp(-self.alpha + self.beta)) / (1 + ops.exp(-self.alpha * p + self.beta))
