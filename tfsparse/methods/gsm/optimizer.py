"""Global sparse momentum SGD: the optimizer that prunes."""

import keras
from keras import ops

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.methods.gsm import rule
from tfsparse.optimizers.validation import variables_of_step
from tfsparse.pruners import selection


@keras.saving.register_keras_serializable(package="tfsparse")
class GSM(keras.optimizers.Optimizer):
    """Momentum SGD in which only the most salient entries of the model get their gradient; the others decay.

        active   = |dL/dw * w| is among the Q largest of all kernels together     Q = int(entries / compression)
        momentum = momentum * z + weight_decay * w + active * dL/dw
        w        = w - learning_rate * momentum

    A weight that is never active shrinks by exp(-learning_rate * weight_decay / (1 - momentum)) in each step. After a
    long training one global cut to 1 / compression of the entries therefore costs nothing: `tfsparse.PruneGSM`. All
    entries that tie at the last place are active. Biases and normalisation layers get their full gradient and no decay.
    Start from a trained model: a weight that is exactly zero has no salience and stays zero.

    Args:
        learning_rate: Number or schedule. Default: 5e-3.
        momentum: In [0, 1). With 0.98 and 0.99 passive weights decay 5 and 10 times as fast as with 0.9. Default: 0.98.
        weight_decay: Coupled decay of kernels, as in the rule above, > 0. Default: 1e-4.
        compression: Entries over entries kept, >= 1. With 1 it is momentum SGD with coupled decay. Default: 10.
        nesterov: Whether to step along `momentum * z + gradient`, as the paper does to find winning tickets. Default:
            False.
        name: Name of the optimizer. Default: "gsm".

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    Examples:
        >>> model.compile(tfsparse.GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=10), loss="mse")
    """

    def __init__(
        self, learning_rate=5e-3, momentum=0.98, weight_decay=1e-4, compression=10.0, nesterov=False, name="gsm"
    ):
        super().__init__(learning_rate, name=name)
        rule.check_options(momentum, weight_decay, compression)
        self.momentum, self.nesterov = momentum, nesterov
        self.coupled_decay, self.compression = weight_decay, compression

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def apply(self, grads, trainable_variables=None):
        if len(grads) == 0:  # as in all optimizers of Keras
            return
        variables, gradients = variables_of_step(self, grads, trainable_variables), list(grads)
        kernels = [i for i, v in enumerate(variables) if selection.is_prunable(v) and gradients[i] is not None]
        weights = [backend_ops.read(variables[i]) for i in kernels]
        whole = replicas.global_gradients([gradients[i] for i in kernels])
        for i, gradient in zip(kernels, rule.active_gradients(weights, whole, self.compression), strict=True):
            gradients[i] = replicas.divide_by_replicas(gradient)
        super().apply(gradients, variables)

    def update_step(self, gradient, variable, learning_rate):
        position, dtype = keras_internals.variable_index(self, variable), variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        momentum, decay = (ops.convert_to_tensor(x, dtype) for x in (self.momentum, self.coupled_decay))
        z = self.momentums[position]
        own = keras_internals.trained_variables(self)[position]  # TensorFlow hands over its own variable, without name
        if selection.is_prunable(own):
            gradient = gradient + decay * variable
        self.assign(z, momentum * z + gradient)
        self.assign_sub(variable, rate * (gradient + momentum * z if self.nesterov else z))

    def decay_exponent(self, steps: int) -> float:
        """Return `sum of learning_rate * weight_decay / (1 - momentum)`; passive weights keep exp(-sum) of their size.

        Args:
            steps: How many optimizer steps follow.

        Returns:
            The sum over these steps.
        """
        rate, first = keras_internals.learning_rate_of(self), backend_ops.to_int(self.iterations)
        return rule.decay_exponent(rate, self.momentum, self.coupled_decay, first, steps)

    def check_training_length(self, steps: int) -> None:
        """Warn if the next steps are too few for a cut without loss, and say what is enough."""
        rule.warn_if_short(self.decay_exponent(steps), self.momentum, self.compression)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("momentum", "compression", "nesterov", "name")}
        rate = super().get_config()["learning_rate"]
        return {"learning_rate": rate, "weight_decay": self.coupled_decay, **own}
