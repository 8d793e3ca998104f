"""The end of a training with GSM, for wrapped models."""

import tf_keras

from tfsparse.callbacks.final_cut import FinalCut
from tfsparse.schedules import OneShot
from tfsparse.tfmot.optimizers import GSM
from tfsparse.tfmot.prune import check_wrapped, lay, prunings, rank_globally
from tfsparse.tfmot.schedules import StepSchedule


class PruneGSM(FinalCut, tf_keras.callbacks.Callback):
    """`tfsparse.PruneGSM` for a wrapped model that is compiled with `tfsparse.tfmot.GSM`: the cut after its last step.

        weight = weight * (|weight| is among the largest 1 / compression of all wrapped kernels)

    The cut comes before the last epoch's validation and checkpoints. With `data`, the last epoch's logs have every
    metric before and after it, `uncut_accuracy` and `cut_accuracy`. Warns before the first step if passive weights will
    not have decayed.

    Args:
        data: what the cut is measured on, `(x, y)` or a dataset; None: it is not measured.

    Raises: ValueError before the first step for a model that is not wrapped with scope="global", or not compiled with
        GSM, and for a dataset of unknown length.

    >>> model = tfsparse.tfmot.prune_low_magnitude(model, scope="global")
    >>> model.compile(tfsparse.tfmot.GSM(5e-3, compression=10), loss="mse")
    >>> model.fit(x, y, epochs=100, callbacks=[tfsparse.tfmot.PruneGSM(data=(x, y))])
    """

    def set_model(self, model):
        super().set_model(model)
        check_wrapped(model)
        rank_globally(model)
        if not isinstance(model.optimizer, GSM):
            raise ValueError(
                f"PruneGSM got a model compiled with {type(model.optimizer).__name__}: write "
                "model.compile(tfsparse.tfmot.GSM(5e-3, compression=10), loss=...)."
            )
        if len(prunings(model)) != 1:
            raise ValueError(
                "PruneGSM makes one cut through all kernels, and these wrappers rank each by itself. Write model = "
                'tfsparse.tfmot.prune_low_magnitude(model, scope="global").'
            )

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            zeros, entries = self._pruning.zeros()
            logs["sparsity"] = zeros / entries

    @property
    def _pruning(self):
        return prunings(self.model)[0]

    @property
    def _sparsity(self):
        return 1 - 1 / self.model.optimizer.compression

    def _prepare(self, steps):
        done = int(self._pruning.steps)
        # one step later than this fit has steps: `_cut` comes before
        lay(self.model, self._pruning, StepSchedule(OneShot(start=1.0), self._sparsity, done + steps + 1))
        self.model.optimizer.check_training_length(steps)

    def _cut(self):
        self._pruning.prune_now(self._sparsity)

    def _apply_masks(self):
        self._pruning.weight_mask_op()

    def _pruned_variables(self):
        return [weight for weight, *_ in self._pruning.pruning_vars]
