"""PLL for wrapped tf_keras models."""

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

from tfsparse.masks import granularity
from tfsparse.methods.pll.controller import PLLController, initial_extra_state
from tfsparse.tfmot import kernels, slots
from tfsparse.tfmot.methods.curvature import Curvature
from tfsparse.tfmot.prune import lay, rank_globally
from tfsparse.tfmot.pruning import native
from tfsparse.tfmot.wrapper import PruneLowMagnitude

_NEVER = 2**31 - 1
_PLACE = "tfsparse_pll"  # of the memory among what a checkpoint of the model holds


class PLL(PLLController, tf_keras.callbacks.Callback):
    """`tfsparse.PLL` for models wrapped by `tfsparse.tfmot.prune_low_magnitude(model, scope="global")`.

    Rules, arguments and logs are those of `tfsparse.PLL`. The wrappers' schedules are replaced by one that never fires.
    What the rules know is in variables that checkpoints of the model hold: `BackupAndRestore` and `tf.train.Checkpoint`
    resume the straight run. A `.keras` file has masks and steps but not these: from it a new run of PLL begins.

    Args:
        calibration_data: one batch `(x, y)` or `(x, y, sample_weight)`.
        sparsity: target in [0, 1) of all wrapped layers together; None: curvature decides.
        every, start, rate, end, total_steps: as for `tfsparse.PLL`.
        loss: see `tfsparse.tfmot.methods.curvature.Curvature`.

    Raises: ValueError or TypeError before the first step if it cannot work.

    >>> model = tfsparse.tfmot.prune_low_magnitude(model, scope="global")
    >>> model.compile("adam", loss="mse")
    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.PLL((x[:128], y[:128]), sparsity=0.9)])
    """

    def _prepare(self, model):
        _check(model)
        rank_globally(model)
        self._hold(model)
        holder = model._lookup_dependency(_PLACE)
        if holder is None or self._wants_more(holder):
            with model.distribute_strategy.scope():
                values = initial_extra_state([weight for weight, *_ in self._pruning.pruning_vars])
                holder = tf.train.Checkpoint(**{k: tf.Variable(v, trainable=False) for k, v in values.items()})
            model._track_trackable(holder, _PLACE, overwrite=True)  # as an attribute it would join the model's weights
        self._names = list(initial_extra_state(self._pruned[0]))
        return Curvature(model, self.calibration_data, self.loss, self._pruned[0])

    def _hold(self, model):
        """Let the masks change only here."""
        if getattr(self._pruning.schedule, "begin_step", None) != _NEVER:
            lay(model, self._pruning, ConstantSparsity(0.0, begin_step=_NEVER))

    def _wants_more(self, holder):
        ended = holder.progress.numpy()[-2] >= 0
        return ended and self.sparsity is not None and self._counts()[0] < self._goal()

    def _resolve(self, first_epoch):
        super()._resolve(first_epoch)
        self._pruning.slots = slots.finder(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._pruning.weight_mask_op()  # and the thresholds that summaries show
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._pruning.weight_mask_op()  # averages may have overwritten the weights

    @property
    def _pruning(self):
        return kernels.wrappers(self.model)[0].pruning_obj

    @property
    def _extra_state(self):
        holder = self.model._lookup_dependency(_PLACE)
        return {name: getattr(holder, name) for name in self._names}

    @property
    def _pruned(self):
        variables = self._pruning.pruning_vars
        return [native(weight) for weight, *_ in variables], [mask for _, mask, _ in variables]

    def _steps(self):
        return int(self._pruning.steps)

    def _goal(self):
        sparsity = 1.0 if self.sparsity is None else self.sparsity
        return sum(self._pruning.pruner.num_prunable(tuple(w.shape), sparsity) for w in self._pruned[0])

    def _prune_to(self, zeros):
        self._pruning.prune_to(zeros)


def _check(model):
    found, again = kernels.wrappers(model), 'model = tfsparse.tfmot.prune_low_magnitude(model, scope="global")'
    if not found:
        raise ValueError(f"No layer of {model.name!r} is wrapped for pruning: write {again} and compile it before fit.")
    for wrapper in found:
        ours = isinstance(wrapper, PruneLowMagnitude)
        if not ours or not wrapper.pruner.is_global or not isinstance(wrapper.units, granularity.Weight):
            raise ValueError(
                f"{wrapper.name} is not wrapped so that its single weights compete with those of the other layers. "
                f"Write {again}, without blocks, of the plain model."
            )
    if getattr(model, "optimizer", None) is None:
        raise ValueError(f"Model {model.name!r} has no optimizer: call model.compile(optimizer, loss) before fit.")
