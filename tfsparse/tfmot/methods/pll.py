"""PLL for wrapped tf_keras models."""

import functools

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

from tfsparse.backend import keras_internals
from tfsparse.masks import granularity
from tfsparse.methods.pll import rules
from tfsparse.methods.pll.controller import PLLController, initial_extra_state
from tfsparse.schedules import OneShot
from tfsparse.tfmot import schedules
from tfsparse.tfmot.callbacks import Promise, WrappedTraining
from tfsparse.tfmot.methods.curvature import Curvature
from tfsparse.tfmot.prune import global_weights, set_schedule
from tfsparse.tfmot.wrapped_weights import slot_finder

__all__ = ["PLL"]

_NEVER = 2**31 - 1
_CHECKPOINT_NAME = "tfsparse_pll"  # of the extra state in a checkpoint of the model


class PLL(WrappedTraining, PLLController, tf_keras.callbacks.Callback):
    """Lets the curvature of the loss decide when and how much to prune a wrapped model (Roulette, PLL).

    Rules and logs are those of `tfsparse.PLL`. The model must be wrapped by `prune_low_magnitude(model,
    scope="global")`. The wrappers' schedules are replaced by one that is never due. The extra state is in variables
    that checkpoints of the model hold: `BackupAndRestore` and `tf.train.Checkpoint` resume the straight run. A `.keras`
    file has masks and steps but no extra state, so a new run of PLL starts from it.

    Args:
        calibration_data: One batch `(x, y)` or `(x, y, sample_weight)`, at least as large as a training batch.
        sparsity: Target in [0, 1) of all wrapped layers together. Default: None, which lets curvature decide.
        every: Optimizer steps between checks, >= 1. Default: None, which is `rules.default_every`.
        start: When pruning starts: "peak", `rules.Peak(...)`, or `rules.FixedStart(0.1)`. Default: "peak".
        rate: How much an event prunes: "loss_budget", `rules.LossBudget(...)`, or `rules.Share(0.2)`. Default:
            "loss_budget".
        end: Fraction of training in (0, 1] at which pruning has ended. Default: 0.5.
        total_steps: Length of training in optimizer steps. Default: None, which is all steps of this `fit`.
        loss: Name, function or `tf_keras.losses.Loss` of `(y, model(x))`. Default: None, the compiled loss.

    Raises:
        ValueError: Before the first step, if the arguments, the model or the length of training cannot work.
        TypeError: If `calibration_data` is not one batch.

    Source:
        Zhong, Zhang, Qiu, Cheng, "Roulette: A Pruning Framework to Train a Sparse Neural Network From Scratch" (IEEE
        Access 9, 2021); the estimators, both rules and all numbers are ours.

    Examples:
        >>> model = tfsparse.tfmot.prune_low_magnitude(model, scope="global")
        >>> model.compile("adam", loss="mse")
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.PLL((x[:128], y[:128]), sparsity=0.9)])
    """

    def _prepare(self, model):
        if not isinstance(global_weights(model).units, granularity.Weight):
            raise ValueError(
                "PLL ranks single weights, and these wrappers rank blocks of them. Write model = "
                'tfsparse.tfmot.prune_low_magnitude(model, scope="global"), without blocks, of the plain model.'
            )
        schedule = _never_due(self.sparsity)
        if schedules.describe(self._masked_weights.schedule) != schedules.describe(schedule):
            set_schedule(model, self._masked_weights, schedule)
        weights = self._masked_weights.weights
        state = keras_internals.tracked(model, _CHECKPOINT_NAME)
        if state is None or self._needs_new_state(state):
            with model.distribute_strategy.scope():
                values = initial_extra_state(weights)
                state = tf.train.Checkpoint(**{k: tf.Variable(v, trainable=False) for k, v in values.items()})
            keras_internals.track(model, _CHECKPOINT_NAME, state)
        self._names = list(initial_extra_state(weights))
        return Curvature(model, self.calibration_data, self.loss, weights)

    def _needs_new_state(self, state):
        ended = rules.Progress.load(state.progress.numpy()).end_step >= 0
        return ended and self.sparsity is not None and self._masked_weights.num_zeros() < self._target()

    def _set_length(self, num_steps):
        super()._set_length(num_steps)
        self._masked_weights.find_slots = slot_finder(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._apply_masks()  # also measures the thresholds, which summaries show
        super().on_epoch_end(epoch, logs)
        self._zeros_seen = self._masked_weights.num_zeros()

    def _promises(self):
        group = self._masked_weights
        zeros = max(group.num_zeros(), self._zeros_seen)
        return [Promise(group, zeros, functools.partial(group.prune_to, zeros))]

    @property
    def _masked_weights(self):
        return global_weights(self.model)

    @property
    def _extra_state(self):
        state = keras_internals.tracked(self.model, _CHECKPOINT_NAME)
        return {name: getattr(state, name) for name in self._names}


def _never_due(sparsity):
    """Return a schedule without updates. It says the target, so that a file from before it can be told apart."""
    if sparsity is None:
        return ConstantSparsity(0.0, begin_step=_NEVER)
    return schedules.StepSchedule(OneShot(start=1.0), sparsity, end_step=_NEVER, begin_step=_NEVER - 1)
