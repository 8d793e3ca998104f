"""Global sparse momentum SGD: the optimizer that prunes."""

import keras
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.methods.gsm import rule
from tfsparse.pruners import selection


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
        rule.check_options(momentum, weight_decay, compression)
        self.momentum, self.nesterov = momentum, nesterov
        self.coupled_decay, self.compression = weight_decay, compression

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        gradients = list(grads)
        kernels = [i for i, v in enumerate(variables) if selection.is_prunable(v) and gradients[i] is not None]
        weights = [backend_ops.read(variables[i]) for i in kernels]
        whole = replicas.global_gradients([gradients[i] for i in kernels])
        for i, gradient in zip(kernels, rule.active_gradients(weights, whole, self.compression), strict=True):
            gradients[i] = replicas.divide_by_replicas(gradient)
        super().apply(gradients, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        position, dtype = self._get_variable_index(variable), variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        momentum, decay = (ops.convert_to_tensor(x, dtype) for x in (self.momentum, self.coupled_decay))
        z = self.momentums[position]
        if selection.is_prunable(self._trainable_variables[position]):  # TensorFlow hands over its own variable
            gradient = gradient + decay * variable
        self.assign(z, momentum * z + gradient)
        self.assign_sub(variable, rate * (gradient + momentum * z if self.nesterov else z))

    def decay_exponent(self, steps: int) -> float:
        """`sum of learning_rate * weight_decay / (1 - momentum)` over the next steps: passive weights keep exp(-it)."""
        first = backend_ops.to_int(self.iterations)
        return rule.decay_exponent(self._learning_rate, self.momentum, self.coupled_decay, first, steps)

    def check_training_length(self, steps: int) -> None:
        """Warn that the next steps are too few for a cut without loss, and say what would do."""
        rule.warn_if_short(self.decay_exponent(steps), self.momentum, self.compression)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("momentum", "compression", "nesterov", "name")}
        rate = super().get_config()["learning_rate"]
        return {"learning_rate": rate, "weight_decay": self.coupled_decay, **own}
