"""Global sparse momentum SGD: the optimizer that prunes."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from tfsparse import distribute, engine, masks, prunable

ENOUGH = 8.0  # exp(-8) = 0.0003: what is left of a passive weight that no cut would miss


@keras.saving.register_keras_serializable(package="tfsparse")
class GSM(keras.optimizers.Optimizer):
    """Momentum SGD in which only the most salient entries of the model see their gradient; the others decay to nothing.

        active   = |dL/dw * w| is among the Q largest of all kernels together     Q = int(entries / compression)
        momentum = momentum * z + weight_decay * w + active * dL/dw
        w        = w - learning_rate * momentum

    What is never active shrinks by exp(-learning_rate * weight_decay / (1 - momentum)) a step, so that after a long
    training one global cut to 1 / compression of the entries costs nothing: `callbacks=[tfsparse.PruneGSM()]`. All
    entries tied at the last place are active. Biases and normalisation get their full gradient and no decay. Start from
    a trained model, none of whose weights is exactly zero: a zero has no salience and stays.

    Args:
        learning_rate: number or schedule.
        momentum: in [0, 1); 0.98 and 0.99 let passive weights decay 5 and 10 times as fast as 0.9 does.
        weight_decay: coupled, as in the rule above; > 0.
        compression: entries over entries kept, >= 1; 1 is momentum SGD with coupled decay.
        nesterov: step along `momentum * z + gradient` instead, as in the paper's search for winning tickets.

    Raises: ValueError for values out of their range.

    Source: Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    >>> model.compile(tfsparse.GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=10), loss="mse")
    """

    def __init__(
        self, learning_rate=5e-3, momentum=0.98, weight_decay=1e-4, compression=10.0, nesterov=False, name="gsm"
    ):
        super().__init__(learning_rate, name=name)
        check_options(momentum, weight_decay, compression)
        self.momentum, self.nesterov = momentum, nesterov
        self.coupled_decay, self.compression = weight_decay, compression

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        gradients = list(grads)
        kernels = [i for i, v in enumerate(variables) if prunable.is_prunable(v) and gradients[i] is not None]
        weights = [engine.read(variables[i]) for i in kernels]
        whole = distribute.global_gradients([gradients[i] for i in kernels])
        for i, gradient in zip(kernels, active_gradients(weights, whole, self.compression), strict=True):
            gradients[i] = distribute.share(gradient)
        super().apply(gradients, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        position, dtype = self._get_variable_index(variable), variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        momentum, decay = (ops.convert_to_tensor(x, dtype) for x in (self.momentum, self.coupled_decay))
        z = self.momentums[position]
        if prunable.is_prunable(self._trainable_variables[position]):  # TensorFlow hands over its own variable
            gradient = gradient + decay * variable
        self.assign(z, momentum * z + gradient)
        self.assign_sub(variable, rate * (gradient + momentum * z if self.nesterov else z))

    def decay_exponent(self, steps: int) -> float:
        """`sum of learning_rate * weight_decay / (1 - momentum)` over the next steps: passive weights keep exp(-it)."""
        first = engine.number(self.iterations)
        return decay_exponent(self._learning_rate, self.momentum, self.coupled_decay, first, steps)

    def warn_if_short(self, steps: int) -> None:
        """Warn that the next steps are too few for a cut without loss, and say what would do."""
        warn_if_short(self.decay_exponent(steps), self.momentum, self.compression)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("momentum", "compression", "nesterov", "name")}
        rate = super().get_config()["learning_rate"]
        return {"learning_rate": rate, "weight_decay": self.coupled_decay, **own}


def active_gradients(weights, gradients, compression: float) -> list:
    """The gradients of the `int(entries / compression)` most salient entries of all weights, 0 for the others."""
    if compression == 1:
        return list(gradients)
    entries = sum(math.prod(w.shape) for w in weights)
    salience = [ops.abs(w * ops.cast(g, w.dtype)) for w, g in zip(weights, gradients, strict=True)]
    chosen = masks.largest(salience, max(int(entries / compression), 1))
    return [engine.masked(g, c) for g, c in zip(gradients, chosen, strict=True)]


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
