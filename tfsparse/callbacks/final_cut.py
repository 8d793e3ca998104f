"""A cut right after the last training step, and what it costs; for the callbacks of both roads."""

import abc

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.variables import zero_fraction
from tfsparse.callbacks.fit_hooks import FitHooks, warn_of_written_weights
from tfsparse.optimizers.evaluation import evaluate


class FinalCut(FitHooks):
    """Mixed into a callback of Keras 3 or tf_keras: one cut after the last step of a `fit`, before its validation.

        after the last step:            values = weights; cut
        after all callbacks:            if one of them has restored weights of before the cut: cut, with a warning
        in the last epoch's logs:       cut_<metric> of the model as it is, uncut_<metric> with `values` put back

    Args:
        data: What the cut is measured on: a tuple of arguments of `evaluate`, or a dataset. Default: None, which
            measures nothing.
    """

    def __init__(self, data=None):
        super().__init__()
        self.data = data

    @abc.abstractmethod
    def _cut(self) -> None:
        """Prune."""

    @abc.abstractmethod
    def _restore_cut(self) -> None:
        """Prune again after the weights of before the cut were evaluated."""

    @abc.abstractmethod
    def _cut_variables(self) -> list:
        """Return the variables that the cut changes."""

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._is_last_epoch = epoch == self.params["epochs"] - 1

    def _begin_fit(self, first_epoch, num_steps):
        self._values_before_cut = None

    def on_train_batch_end(self, batch, logs=None):
        if self._is_last_epoch and batch == self.params["steps"] - 1:
            self._cut_now()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._values_before_cut and self.data is not None:
            logs.update(self._metrics_of_both())

    def on_train_end(self, logs=None):
        if not self._values_before_cut:  # training stopped early
            self._cut_now()
        keras_internals.after_train_end(self, self._prune_written_weights)

    def _cut_now(self):
        self._values_before_cut = [backend_ops.to_numpy(v).copy() for v in self._cut_variables()]
        self._cut()
        self._sparsity_after_cut = zero_fraction(self._cut_variables())

    def _prune_written_weights(self):
        before = zero_fraction(self._cut_variables())
        if before != self._sparsity_after_cut:
            self._cut()
            warn_of_written_weights(before, zero_fraction(self._cut_variables()))

    def _metrics_of_both(self):
        after = evaluate(self.model, self.data)
        try:
            for variable, value in zip(self._cut_variables(), self._values_before_cut, strict=True):
                variable.assign(value)
            before = evaluate(self.model, self.data)
        finally:
            self._restore_cut()
        return {f"uncut_{k}": v for k, v in before.items()} | {f"cut_{k}": v for k, v in after.items()}
