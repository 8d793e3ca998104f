"""GSM for tf_keras: the optimizer, and the cut at the end of training for wrapped models."""

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals
from tfsparse.methods.gsm import rule
from tfsparse.methods.gsm.cut import GSMCut
from tfsparse.schedules import OneShot as OneShotFraction
from tfsparse.tfmot import kernels
from tfsparse.tfmot.callbacks import WrappedTraining
from tfsparse.tfmot.constraints import native
from tfsparse.tfmot.prune import global_weights, reached_target, set_schedule
from tfsparse.tfmot.schedules import StepSchedule

__all__ = ["GSM", "PruneGSM"]


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class GSM(tf_keras.optimizers.Optimizer):
    """Momentum SGD in which only the most salient entries of the model get their gradient; the others decay.

        active   = |dL/dw * w| is among the Q largest of all kernels together     Q = int(entries / compression)
        momentum = momentum * z + weight_decay * w + active * dL/dw
        w        = w - learning_rate * momentum

    Args:
        learning_rate: Number or schedule. Default: 5e-3.
        momentum: In [0, 1). Default: 0.98.
        weight_decay: Coupled decay of kernels, > 0. Default: 1e-4.
        compression: Entries over entries kept, >= 1. Default: 10.
        nesterov: Whether to step along `momentum * z + gradient`. Default: False.
        name: Name of the optimizer. Default: "GSM".

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    Examples:
        >>> model.compile(tfsparse.tfmot.GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=10), loss="mse")
    """

    def __init__(
        self, learning_rate=5e-3, momentum=0.98, weight_decay=1e-4, compression=10.0, nesterov=False, name="GSM"
    ):
        super().__init__(name=name)
        rule.check_options(momentum, weight_decay, compression)
        keras_internals.set_tf_keras_learning_rate(self, learning_rate)
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
        active = rule.active_gradients(weights, list(gradients.values()), self.compression)
        gradients |= dict(zip(gradients, active, strict=True))
        return [(gradients.get(i, g), v) for i, (g, v) in enumerate(pairs)]

    def update_step(self, gradient, variable):
        gradient = tf.convert_to_tensor(gradient)
        rate = tf.cast(self.learning_rate, variable.dtype)
        momentum, decay = (tf.constant(x, variable.dtype) for x in (self.momentum, self.coupled_decay))
        index = keras_internals.tf_keras_variable_index(self, variable)
        z = self.momentums[index]
        if self._decays[index]:
            gradient = gradient + decay * variable
        z.assign(momentum * z + gradient)
        variable.assign_sub(rate * (gradient + momentum * z if self.nesterov else z))

    def decay_exponent(self, steps: int) -> float:
        """Return `sum of learning_rate * weight_decay / (1 - momentum)`; passive weights keep exp(-sum) of their size.

        Args:
            steps: How many optimizer steps follow.

        Returns:
            The sum over these steps.
        """
        rate, first = keras_internals.learning_rate_of(self), int(self.iterations.numpy())
        return rule.decay_exponent(rate, self.momentum, self.coupled_decay, first, steps)

    def check_training_length(self, steps: int) -> None:
        """Warn if the next steps are too few for a cut without loss, and say what is enough."""
        rule.warn_if_short(self.decay_exponent(steps), self.momentum, self.compression)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("momentum", "compression", "nesterov", "name")}
        rate = keras_internals.serialized_tf_keras_learning_rate(self)
        return {"learning_rate": rate, "weight_decay": self.coupled_decay, **own}


class PruneGSM(WrappedTraining, GSMCut, tf_keras.callbacks.Callback):
    """Cuts a wrapped model that is compiled with `tfsparse.tfmot.GSM`, after its last step.

        weight = weight * (|weight| is among the largest 1 / compression of all wrapped kernels)

    The cut comes before the last epoch's validation and checkpoints. With `data`, the last epoch's logs have every
    metric before and after it, `uncut_accuracy` and `cut_accuracy`. A warning before the first step says if passive
    weights will not have decayed.

    Args:
        data: What the cut is measured on: `(x, y)` or a dataset. Default: None, which measures nothing.

    Raises:
        ValueError: Before the first step, if the model is not wrapped with scope="global" or not compiled with GSM, or
            if the dataset's length is unknown.

    Source:
        Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    Examples:
        >>> model = tfsparse.tfmot.prune_low_magnitude(model, scope="global")
        >>> model.compile(tfsparse.tfmot.GSM(5e-3, compression=10), loss="mse")
        >>> model.fit(x, y, epochs=100, callbacks=[tfsparse.tfmot.PruneGSM(data=(x, y))])
    """

    def set_model(self, model):
        super().set_model(model)
        if not isinstance(model.optimizer, GSM):
            raise ValueError(
                f"PruneGSM got a model compiled with {type(model.optimizer).__name__}: write "
                "model.compile(tfsparse.tfmot.GSM(5e-3, compression=10), loss=...)."
            )
        global_weights(model)

    def reached_target(self) -> bool:
        """Return whether the weights are cut."""
        return reached_target(self.model)

    @property
    def _masked_weights(self):
        return global_weights(self.model)

    @property
    def _sparsity(self):
        return 1 - 1 / self.model.optimizer.compression

    def _begin_fit(self, first_epoch, num_steps):
        super()._begin_fit(first_epoch, num_steps)
        end = self._masked_weights.num_steps() + num_steps + 1  # after this fit: `_cut` comes before
        set_schedule(self.model, self._masked_weights, StepSchedule(OneShotFraction(start=1.0), self._sparsity, end))
        self._masked_weights.warn_of_missed()
        self.model.optimizer.check_training_length(num_steps)

    def _cut(self):
        self._masked_weights.prune_now(self._sparsity)

    def _restore_cut(self):
        self._masked_weights.weight_mask_op()
