"""Optimizers that prune, for tf_keras."""

import tensorflow as tf
import tf_keras

from tfsparse.methods.gsm import rule
from tfsparse.tfmot import kernels
from tfsparse.tfmot.pruning import native


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class GSM(tf_keras.optimizers.Optimizer):
    """`tfsparse.GSM` for tf_keras: the same rule, arguments and errors.

    >>> model.compile(tfsparse.tfmot.GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=10), loss="mse")
    """

    def __init__(
        self, learning_rate=5e-3, momentum=0.98, weight_decay=1e-4, compression=10.0, nesterov=False, name="GSM"
    ):
        super().__init__(name=name)
        rule.check_options(momentum, weight_decay, compression)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum, self.nesterov = momentum, nesterov
        self.coupled_decay, self.compression = weight_decay, compression

    def build(self, var_list):
        super().build(var_list)
        if not getattr(self, "_built", False):
            self.momentums = [self.add_variable_from_reference(v, "m") for v in var_list]
            self._decays = [kernels.is_kernel(v) for v in var_list]  # a replica's copy has another name
            self._built = True

    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        pairs = [(g, v) for g, v in grads_and_vars if g is not None]
        if kwargs.pop("experimental_aggregate_gradients", True) and not skip_gradients_aggregation:
            pairs = self.aggregate_gradients(pairs)
        return super().apply_gradients(self._active(pairs), name, skip_gradients_aggregation=True)

    def _active(self, pairs):
        gradients = {i: g for i, (g, v) in enumerate(pairs) if kernels.is_kernel(v)}
        weights = [tf.convert_to_tensor(native(pairs[i][1])) for i in gradients]
        chosen = rule.active_gradients(weights, list(gradients.values()), self.compression)
        gradients |= dict(zip(gradients, chosen, strict=True))
        return [(gradients.get(i, g), v) for i, (g, v) in enumerate(pairs)]

    def update_step(self, gradient, variable):
        gradient = tf.convert_to_tensor(gradient)
        rate = tf.cast(self.learning_rate, variable.dtype)
        momentum, decay = (tf.constant(x, variable.dtype) for x in (self.momentum, self.coupled_decay))
        position = self._index_dict[self._var_key(variable)]
        z = self.momentums[position]
        if self._decays[position]:
            gradient = gradient + decay * variable
        z.assign(momentum * z + gradient)
        variable.assign_sub(rate * (gradient + momentum * z if self.nesterov else z))

    def decay_exponent(self, steps: int) -> float:
        """As `tfsparse.GSM.decay_exponent`."""
        return rule.decay_exponent(
            self._learning_rate, self.momentum, self.coupled_decay, int(self.iterations.numpy()), steps
        )

    def check_training_length(self, steps: int) -> None:
        """As `tfsparse.GSM.check_training_length`."""
        rule.warn_if_short(self.decay_exponent(steps), self.momentum, self.compression)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("momentum", "compression", "nesterov", "name")}
        rate = self._serialize_hyperparameter(self._learning_rate)
        return {"learning_rate": rate, "weight_decay": self.coupled_decay, **own}
