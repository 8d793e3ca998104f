"""The weight of DST's penalty, from the distance between target and actual sparsity."""

from typing import NamedTuple

import numpy as np

_ERROR_RANGE = 0.01  # at an error of this size the PD term reaches 1
_DERIVATIVE_WEIGHT = 2.0  # looks ahead, since thresholds react late
_INTEGRAL_WEIGHT = 0.05
_GAIN_CHANGE = 0.2  # largest change of log(gain) in one update
_RESET_DROP = 0.05  # the sparsity falls by so much in one period only if thresholds were reset


class PIDController(NamedTuple):
    """A PID controller that adapts its gain: how far alpha moves a network depends on widths, optimizer and loss.

        error    = target - actual
        pd       = clip((error - 2 * (actual - last actual)) / 0.01, -1, 1)
        gain     = gain * exp(0.2 * pd * last pd)
        integral = clip(integral + 0.05 * pd, -1, 1)
        alpha    = gain * (pd + integral)                  below 0 the penalty pulls thresholds down

        if actual has fallen by more than 0.05, thresholds were reset:  gain = gain / 2;  pd = integral = 0

    Its state is five numbers, which a layer saves in one variable.

    Args:
        gain: Scale of alpha, > 0.
        integral: Integral term, in [-1, 1]. Default: 0.
        pd: Proportional and derivative term, in [-1, 1]. Default: 0.
        actual: Sparsity at the last update. Default: 0.
        initial: Sparsity at the beginning of the training. The controller does not use it. Default: 0.

    Examples:
        >>> controller = PIDController(gain=1e-3).updated(target=0.005, actual=0.0)
        >>> round(controller.pd, 3), round(controller.alpha, 6)
        (0.5, 0.000525)
    """

    gain: float
    integral: float = 0.0
    pd: float = 0.0
    actual: float = 0.0
    initial: float = 0.0

    def updated(self, target: float, actual: float) -> "PIDController":
        """Return the controller after the network's sparsity was measured."""
        error, change = target - actual, actual - self.actual
        if change < -_RESET_DROP:
            return PIDController(max(self.gain / 2, 1e-9), actual=actual, initial=self.initial)
        pd = float(np.clip((error - _DERIVATIVE_WEIGHT * change) / _ERROR_RANGE, -1, 1))
        gain = self.gain * float(np.exp(_GAIN_CHANGE * pd * self.pd))
        integral = float(np.clip(self.integral + _INTEGRAL_WEIGHT * pd, -1, 1))
        return PIDController(float(np.clip(gain, 1e-9, 1.0)), integral, pd, actual, self.initial)

    @property
    def alpha(self) -> float:
        """The weight of the penalty until the next update."""
        return self.gain * (self.pd + self.integral)
