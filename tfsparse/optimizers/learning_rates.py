"""Learning rates that change during training.

In the 1cycle policy the learning rate rises and falls, and the momentum falls and rises. One-Cycle Pruning was
published with it. The numbers are those of fastai's `fit_one_cycle`.
"""

import math
from collections.abc import Sequence

import keras
from keras import ops

from tfsparse.backend import keras_internals


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of 1cycle: half a cosine up to a maximum, then half a cosine down to almost nothing.

        p = min(step / total_steps, 1)
        p < warmup:   from max_learning_rate / initial_divisor up to max_learning_rate
        p >= warmup:  from max_learning_rate down to max_learning_rate / final_divisor

    Args:
        max_learning_rate: The highest learning rate, > 0.
        total_steps: Batches of the whole training, >= 1.
        warmup: Fraction of training in which the rate rises, in (0, 1). Default: 0.25.
        initial_divisor: The maximum over the first rate, > 0. Default: 25.
        final_divisor: The maximum over the last rate, > 0. Default: 1e5.

    Raises:
        ValueError: If an argument is outside its range.

    Source:
        Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates" (2018,
        arXiv 1708.07120). The cosines and the numbers are those of fastai's `fit_one_cycle`.

    Examples:
        >>> rate = OneCycleRate(1e-3, total_steps=1000)
        >>> [f"{float(rate(step)):.1e}" for step in (0, 250, 1000)]
        ['4.0e-05', '1.0e-03', '1.0e-08']
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        warmup: float = 0.25,
        initial_divisor: float = 25.0,
        final_divisor: float = 1e5,
    ):
        if total_steps < 1 or not 0 < warmup < 1:
            raise ValueError(
                f"total_steps={total_steps} must be at least 1 and warmup={warmup} a fraction between 0 and 1; "
                f"write e.g. OneCycleRate({max_learning_rate}, total_steps=epochs * steps_per_epoch)."
            )
        if min(max_learning_rate, initial_divisor, final_divisor) <= 0:
            raise ValueError(
                f"max_learning_rate={max_learning_rate}, initial_divisor={initial_divisor} and final_divisor="
                f"{final_divisor} must be positive; write e.g. OneCycleRate(1e-3, total_steps={total_steps})."
            )
        self.max_learning_rate = max_learning_rate
        self.total_steps = total_steps
        self.warmup = warmup
        self.initial_divisor = initial_divisor
        self.final_divisor = final_divisor

    def __call__(self, step):
        top = self.max_learning_rate
        return self.cycle(step, top / self.initial_divisor, top, top / self.final_divisor)

    def cycle(self, step, start: float, middle: float, end: float):
        """Return a value that follows the cycle: half a cosine from `start` to `middle`, then one to `end`.

        Args:
            step: Step of training, an int, a float or a scalar tensor.
            start: Value at the start of training.
            middle: Value at the end of the warmup, where the learning rate has its maximum.
            end: Value at the end of training.

        Returns:
            A scalar tensor.
        """
        position = ops.clip(ops.cast(step, keras.config.floatx()) / self.total_steps, 0.0, 1.0)
        rising = position < self.warmup
        fraction = ops.where(rising, position / self.warmup, (position - self.warmup) / (1.0 - self.warmup))
        begin, finish = ops.where(rising, start, middle), ops.where(rising, middle, end)
        angle = fraction * (math.pi / 2)
        # cos^2 and sin^2 instead of (1 + cos)/2: no cancellation where the value falls to max / 100,000
        return begin * ops.square(ops.cos(angle)) + finish * ops.square(ops.sin(angle))

    def get_config(self):
        return {
            "max_learning_rate": self.max_learning_rate,
            "total_steps": self.total_steps,
            "warmup": self.warmup,
            "initial_divisor": self.initial_divisor,
            "final_divisor": self.final_divisor,
        }


class CyclingMomentum:
    """An optimizer that computes its momentum from its step count, in the compiled step.

    A momentum that is a float would be a constant of the compiled step.
    """

    def __init__(self, learning_rate, momentum_range, **kwargs):
        if not isinstance(learning_rate, OneCycleRate):
            name = type(self).__name__
            raise ValueError(
                f"The learning rate of {name} must be a OneCycleRate, whose cycle the momentum follows, not "
                f"{learning_rate!r}: write {name}(OneCycleRate(1e-3, total_steps=epochs * steps_per_epoch))."
            )
        low, high = momentum_range
        if not 0 < low <= high < 1:
            raise ValueError(f"momentum_range={momentum_range} must be (low, high) inside (0, 1), e.g. (0.85, 0.95).")
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._cycle = learning_rate
        self.momentum_range = (low, high)

    def current_momentum(self):
        """Return the momentum of the next step, a scalar tensor; it is lowest where the learning rate is highest."""
        low, high = self.momentum_range
        return self._cycle.cycle(keras_internals.num_batches(self), high, low, high)

    def get_config(self):
        config = super().get_config() | {"momentum_range": self.momentum_range}
        for constant in ("momentum", "beta_1"):
            config.pop(constant, None)
        return config


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleSGD(CyclingMomentum, keras.optimizers.SGD):
    """SGD whose momentum follows the cycle of its learning rate.

        m = momentum(step) * m - rate(step) * gradient
        w = w + m                                             nesterov: w + momentum(step) * m - rate(step) * gradient

    Args:
        learning_rate: A `OneCycleRate`.
        momentum_range: `(low, high)` in (0, 1). The momentum is high at both ends of training and low where the
            learning rate is highest. Default: (0.85, 0.95).
        nesterov: Whether the momentum is Nesterov's. Default: False.
        name: Name of the optimizer. Default: "one_cycle_sgd".
        **kwargs: Further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: If the learning rate is not a `OneCycleRate`, or the range is not inside (0, 1).

    Examples:
        >>> optimizer = OneCycleSGD(OneCycleRate(0.1, total_steps=100))
        >>> round(float(optimizer.current_momentum()), 2)
        0.95
    """

    def __init__(self, learning_rate, momentum_range=(0.85, 0.95), nesterov=False, name="one_cycle_sgd", **kwargs):
        # SGD uses the constant only to decide whether it needs slots for the momentum
        super().__init__(
            learning_rate, momentum_range, momentum=float(momentum_range[1]), nesterov=nesterov, name=name, **kwargs
        )

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(learning_rate, variable.dtype) * ops.cast(gradient, variable.dtype)
        momentum = ops.cast(self.current_momentum(), variable.dtype)
        velocity = self.momentums[keras_internals.variable_index(self, variable)]
        self.assign(velocity, velocity * momentum - step)
        self.assign_add(variable, velocity * momentum - step if self.nesterov else velocity)


class CyclingBeta(CyclingMomentum):
    """Adam whose first decay rate is a property, so that Keras's update rule reads the tensor of the current step."""

    @property
    def beta_1(self):
        return self.current_momentum()

    @beta_1.setter
    def beta_1(self, constant):
        """Ignore the constant that `keras.optimizers.Adam.__init__` assigns: the cycle replaces it."""


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleAdam(CyclingBeta, keras.optimizers.Adam):
    """Adam whose `beta_1` follows the cycle of its learning rate.

    The bias correction uses the `beta_1` of the current step, as in fastai. Keras adds `epsilon` before this
    correction, fastai after it.

    Args:
        learning_rate: A `OneCycleRate`.
        momentum_range: `(low, high)` of `beta_1`, in (0, 1). It is high at both ends of training and low where the
            learning rate is highest. Default: (0.85, 0.95).
        beta_2: Decay rate of the second moment, in (0, 1). Default: 0.99, fastai's.
        epsilon: Constant for numerical stability. Default: 1e-5, fastai's.
        name: Name of the optimizer. Default: "one_cycle_adam".
        **kwargs: Further arguments of `keras.optimizers.Adam`.

    Raises:
        ValueError: If the learning rate is not a `OneCycleRate`, or the range is not inside (0, 1).

    Examples:
        >>> optimizer = OneCycleAdam(OneCycleRate(1e-3, total_steps=100))
        >>> round(float(optimizer.beta_1), 2)
        0.95
    """

    def __init__(
        self, learning_rate, momentum_range=(0.85, 0.95), beta_2=0.99, epsilon=1e-5, name="one_cycle_adam", **kwargs
    ):
        super().__init__(learning_rate, momentum_range, beta_2=beta_2, epsilon=epsilon, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleAdamW(CyclingBeta, keras.optimizers.AdamW):
    """Adam with decoupled weight decay whose `beta_1` follows the cycle of its learning rate: fastai's default.

    fastai decays neither biases nor BatchNormalization. To do the same, call
    `optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])` before training.

    Args:
        learning_rate: A `OneCycleRate`.
        momentum_range: `(low, high)` of `beta_1`, in (0, 1). It is high at both ends of training and low where the
            learning rate is highest. Default: (0.85, 0.95).
        weight_decay: Decoupled weight decay, >= 0. Default: 0.01.
        beta_2: Decay rate of the second moment, in (0, 1). Default: 0.99, fastai's.
        epsilon: Constant for numerical stability. Default: 1e-5, fastai's.
        name: Name of the optimizer. Default: "one_cycle_adamw".
        **kwargs: Further arguments of `keras.optimizers.AdamW`.

    Raises:
        ValueError: If the learning rate is not a `OneCycleRate`, or the range is not inside (0, 1).

    Examples:
        >>> optimizer = OneCycleAdamW(OneCycleRate(1e-3, total_steps=100), weight_decay=0.01)
        >>> optimizer.weight_decay
        0.01
    """

    def __init__(
        self,
        learning_rate,
        momentum_range=(0.85, 0.95),
        weight_decay=0.01,
        beta_2=0.99,
        epsilon=1e-5,
        name="one_cycle_adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            momentum_range,
            weight_decay=weight_decay,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="tfsparse")
class StepRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that falls in steps: constant, and multiplied by a factor at some fractions of training.

        p = step / total_steps
        rate = first * min(p / warmup, 1) * factor ** (number of boundaries <= p)

    Args:
        first: Learning rate before the first boundary, > 0.
        total_steps: Batches of the whole training, >= 1.
        boundaries: Rising fractions of training in (0, 1) at which the rate falls. Default: (), a constant rate.
        factor: What the rate is multiplied by at each boundary, > 0. Default: 0.1.
        warmup: Fraction of training in which the rate rises from 0, in [0, 1). Default: 0.0, no warmup.

    Raises:
        ValueError: If an argument is outside its range.

    Examples:
        >>> rate = StepRate(0.1, total_steps=100, boundaries=(0.5, 0.75))
        >>> [f"{float(rate(step)):.3f}" for step in (0, 50, 75)]
        ['0.100', '0.010', '0.001']
    """

    def __init__(
        self,
        first: float,
        total_steps: int,
        boundaries: Sequence[float] = (),
        factor: float = 0.1,
        warmup: float = 0.0,
    ):
        is_rising = list(boundaries) == sorted(set(boundaries)) and all(0 < b < 1 for b in boundaries)
        if not (is_rising and first > 0 and factor > 0 and total_steps >= 1 and 0 <= warmup < 1):
            raise ValueError(
                f"first={first}, total_steps={total_steps}, boundaries={list(boundaries)}, factor={factor}, "
                f"warmup={warmup}: expected positive numbers, rising fractions of training in (0, 1) and a warmup in "
                "[0, 1): write StepRate(0.1, total_steps=1000, boundaries=(0.5, 0.75), factor=0.1, warmup=0.05)."
            )
        self.first, self.total_steps, self.boundaries = first, total_steps, tuple(boundaries)
        self.factor, self.warmup = factor, warmup

    def __call__(self, step):
        position = ops.cast(step, "float32") / self.total_steps
        rate = self.first * (ops.minimum(position / self.warmup, 1.0) if self.warmup else ops.ones_like(position))
        for boundary in self.boundaries:
            rate = ops.where(position >= boundary, rate * self.factor, rate)
        return rate

    def get_config(self):
        return {k: getattr(self, k) for k in ("first", "total_steps", "boundaries", "factor", "warmup")}

    @classmethod
    def from_config(cls, config):
        """Create a learning rate from what `get_config` returned. Older files call the boundaries `at`."""
        return cls(**{"boundaries" if name == "at" else name: value for name, value in config.items()})
