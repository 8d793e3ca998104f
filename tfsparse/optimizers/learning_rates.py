"""Learning rates that change over training.

The 1cycle policy as fastai's `fit_one_cycle` runs it: the learning rate rises and falls, momentum does the opposite.

One-Cycle Pruning is published with it. Source: Smith & Topin 2018 (arXiv 1708.07120); fastai `callback.schedule`.
"""

import math
from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of 1cycle: a cosine up to `max_learning_rate`, then a cosine down to almost nothing.

    With p = step / total_steps, held at its last value past the end:

        p < warmup:   max / initial_divisor -> max
        p >= warmup:  max -> max / final_divisor

    max_learning_rate: > 0. total_steps: batches of the whole run, >= 1. warmup: fraction in (0, 1).
    initial_divisor, final_divisor: > 0.

    Raises ValueError for anything outside these ranges.

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
        """Return the value at `step` (int or float) of the cosines `start` -> `middle` -> `end`, a scalar tensor."""
        position = ops.clip(ops.cast(step, keras.config.floatx()) / self.total_steps, 0.0, 1.0)
        rising = position < self.warmup
        within = ops.where(rising, position / self.warmup, (position - self.warmup) / (1.0 - self.warmup))
        begin, finish = ops.where(rising, start, middle), ops.where(rising, middle, end)
        angle = within * (math.pi / 2)
        # cos^2 and sin^2 instead of (1 + cos)/2: no cancellation where the value falls to max / 100,000.
        return begin * ops.square(ops.cos(angle)) + finish * ops.square(ops.sin(angle))

    def get_config(self):
        return {
            "max_learning_rate": self.max_learning_rate,
            "total_steps": self.total_steps,
            "warmup": self.warmup,
            "initial_divisor": self.initial_divisor,
            "final_divisor": self.final_divisor,
        }


class _CyclingMomentum:
    """Momentum read from `iterations` inside the step; Keras would bake a float into the compiled graph."""

    def __init__(self, learning_rate, momentum_range, **kwargs):
        if not isinstance(learning_rate, OneCycleRate):
            name = type(self).__name__
            raise ValueError(
                f"{name} follows the cycle of its learning rate, which must be a OneCycleRate, not {learning_rate!r}; "
                f"write {name}(OneCycleRate(1e-3, total_steps=epochs * steps_per_epoch))."
            )
        low, high = momentum_range
        if not 0 < low <= high < 1:
            raise ValueError(f"momentum_range={momentum_range} must be (low, high) inside (0, 1), e.g. (0.85, 0.95).")
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._cycle = learning_rate
        self.momentum_range = (low, high)

    def current_momentum(self):
        """Return the momentum of the coming step, a scalar tensor: high, low where the learning rate peaks, high."""
        low, high = self.momentum_range
        # `_iterations` and not `iterations`: the learning rate counts batches too when gradients are accumulated.
        return self._cycle.cycle(self._iterations, high, low, high)

    def get_config(self):
        config = super().get_config() | {"momentum_range": self.momentum_range}
        for constant in ("momentum", "beta_1"):
            config.pop(constant, None)
        return config


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleSGD(_CyclingMomentum, keras.optimizers.SGD):
    """SGD whose momentum follows the cycle of its learning rate.

        m <- momentum(step) * m - rate(step) * gradient
        w <- w + m                                            (nesterov: w + momentum(step) * m - rate(step) * gradient)

    learning_rate: a `OneCycleRate`. momentum_range: (low, high) in (0, 1); low where the rate peaks.
    Further arguments are those of `keras.optimizers.SGD`. Raises ValueError for another kind of learning rate.

    >>> optimizer = OneCycleSGD(OneCycleRate(0.1, total_steps=100))
    >>> round(float(optimizer.current_momentum()), 2)
    0.95
    """

    def __init__(self, learning_rate, momentum_range=(0.85, 0.95), nesterov=False, name="one_cycle_sgd", **kwargs):
        # SGD itself only asks whether its constant is zero, to know if it needs the momentum slots.
        super().__init__(
            learning_rate, momentum_range, momentum=float(momentum_range[1]), nesterov=nesterov, name=name, **kwargs
        )

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(learning_rate, variable.dtype) * ops.cast(gradient, variable.dtype)
        momentum = ops.cast(self.current_momentum(), variable.dtype)
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(velocity, velocity * momentum - step)
        self.assign_add(variable, velocity * momentum - step if self.nesterov else velocity)


class _CyclingBeta(_CyclingMomentum):
    """Adam's first decay rate as a property, so that Keras' own update rule reads the tensor of the current step."""

    @property
    def beta_1(self):
        return self.current_momentum()

    @beta_1.setter
    def beta_1(self, constant):
        """`keras.optimizers.Adam.__init__` writes its constant here, which the cycle replaces."""


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleAdam(_CyclingBeta, keras.optimizers.Adam):
    """Adam whose `beta_1` follows the cycle of its learning rate; the other defaults are fastai's too.

    learning_rate: a `OneCycleRate`. momentum_range: (low, high) of `beta_1`, in (0, 1). Further arguments are those of
    `keras.optimizers.Adam`. As in fastai the bias correction uses the `beta_1` of the current step; unlike it, Keras
    adds `epsilon` before that correction. Raises ValueError for another kind of learning rate.

    >>> optimizer = OneCycleAdam(OneCycleRate(1e-3, total_steps=100))
    >>> round(float(optimizer.beta_1), 2)
    0.95
    """

    def __init__(
        self, learning_rate, momentum_range=(0.85, 0.95), beta_2=0.99, epsilon=1e-5, name="one_cycle_adam", **kwargs
    ):
        super().__init__(learning_rate, momentum_range, beta_2=beta_2, epsilon=epsilon, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="tfsparse")
class OneCycleAdamW(_CyclingBeta, keras.optimizers.AdamW):
    """`OneCycleAdam` with decoupled weight decay: what fastai's `fit_one_cycle` runs by default.

    fastai decays neither biases nor BatchNormalization: follow with
    `optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])` before the model is trained.

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
    """The learning rate of many papers: constant, multiplied by `factor` at some fractions of training.

        p = step / total_steps
        rate = first * min(p / warmup, 1) * factor ** #{a in at: p >= a}

    first: > 0. total_steps: batches of the whole run, >= 1. at: fractions in (0, 1), rising. factor: > 0.
    warmup: fraction in [0, 1); 0 is none.

    Raises ValueError for anything outside these ranges.

    >>> rate = StepRate(0.1, total_steps=100, at=(0.5, 0.75))
    >>> [f"{float(rate(step)):.3f}" for step in (0, 50, 75)]
    ['0.100', '0.010', '0.001']
    """

    def __init__(
        self, first: float, total_steps: int, at: Sequence[float] = (), factor: float = 0.1, warmup: float = 0.0
    ):
        fits = first > 0 and factor > 0 and total_steps >= 1 and 0 <= warmup < 1
        if not fits or list(at) != sorted(set(at)) or not all(0 < a < 1 for a in at):
            raise ValueError(
                f"first={first}, total_steps={total_steps}, at={list(at)}, factor={factor}, warmup={warmup}: expected "
                "positive numbers, rising fractions of training in (0, 1) and a warmup in [0, 1); write e.g. "
                "StepRate(0.1, total_steps=1000, at=(0.5, 0.75), factor=0.1, warmup=0.05)."
            )
        self.first, self.total_steps, self.at = first, total_steps, tuple(at)
        self.factor, self.warmup = factor, warmup

    def __call__(self, step):
        position = ops.cast(step, "float32") / self.total_steps
        rate = self.first * (ops.minimum(position / self.warmup, 1.0) if self.warmup else ops.ones_like(position))
        for at in self.at:
            rate = ops.where(position >= at, rate * self.factor, rate)
        return rate

    def get_config(self):
        return {k: getattr(self, k) for k in ("first", "total_steps", "at", "factor", "warmup")}
