"""How hard thresholds are pushed, from how far the sparsity is off."""

from typing import NamedTuple

import numpy as np

_TOLERANCE = 0.01  # an error of one point pushes with all its might
_AHEAD = 2.0  # looks: what is on its way arrives late
_INTEGRAL = 0.05  # of each push stays
_ADAPTION = 0.2  # by how much the scale grows or shrinks, at most
_COLLAPSE = 0.05  # so much sparsity is lost at once only where thresholds were reset


class PIDController(NamedTuple):
    """A PID controller that finds its own scale: how far alpha moves a network depends on widths, optimizer and loss.

        error = wanted - actual
        push = clip((error - 2 * (actual - last actual)) / 0.01, -1, 1)
        scale = scale * exp(0.2 * push * last push)
        scale = scale / 2                              if actual has fallen by more than 0.05: thresholds were reset
        integral = clip(integral + 0.05 * push, -1, 1)
        alpha = scale * (push + integral)              below 0 thresholds are pulled down

    Five numbers, so that a layer can remember them: scale > 0, integral and push in [-1, 1], the last actual sparsity,
    and the sparsity at which the training began.

    >>> control = PIDController(scale=1e-3).next(wanted=0.005, actual=0.0)
    >>> round(control.push, 3), round(control.alpha, 6)
    (0.5, 0.000525)
    """

    scale: float
    integral: float = 0.0
    push: float = 0.0
    actual: float = 0.0
    start: float = 0.0

    def next(self, wanted: float, actual: float) -> "PIDController":
        """After a look at the network."""
        error, change = wanted - actual, actual - self.actual
        if change < -_COLLAPSE:
            return PIDController(max(self.scale / 2, 1e-9), 0.0, 0.0, actual, self.start)
        push = float(np.clip((error - _AHEAD * change) / _TOLERANCE, -1, 1))
        scale = self.scale * float(np.exp(_ADAPTION * push * self.push))
        integral = float(np.clip(self.integral + _INTEGRAL * push, -1, 1))
        return PIDController(float(np.clip(scale, 1e-9, 1.0)), integral, push, actual, self.start)

    @property
    def alpha(self) -> float:
        """The penalty's weight until the next look."""
        return self.scale * (self.push + self.integral)
