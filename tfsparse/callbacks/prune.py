"""The one line that users add."""

import warnings

import keras
import numpy as np
from keras import ops

from tfsparse import pruners, schedules
from tfsparse.consistency import checks
from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.validation import ChecksTrainingLength, check_total_steps
from tfsparse.pruners import selection


class Prune(keras.callbacks.Callback):
    """Train a model sparse: `model.fit(..., callbacks=[Prune("one_cycle", sparsity=0.9)])`.

    Owns no state. Before Keras compiles the training step it wraps the compiled optimizer in a `SparseOptimizer`, which
    does the work; so saved files, `BackupAndRestore` and a second `fit` all see the sparse optimizer. `sparsity` (zeros
    in the masks over entries of the pruned weights, in [0, 1]) joins the loss in the progress bar and in the history.

    A schedule, once begun, ends at the step where it said it would: a `fit` that resumes it continues it. When it has
    ended, a further `fit` with an equal `Prune` trains on at the target; with another target, pruner or schedule it
    begins a new cycle from the present masks.

    Args:
        schedule, sparsity, pruner: as for `SparseOptimizer`.
        total_steps: steps of the schedule; None: what this `fit` has left, `epochs x steps`. Give it when one schedule
            spans several calls of `fit`.
        sparsities, exclude, skip_first, skip_last: as for `sparsify`.
        on_divergence: what to do if the replicas' masks differ, which is looked at before every mask update and at the
            end of every epoch: "raise", or "repair" them from the first replica.

    Raises: ValueError before the first step if the target cannot be reached: model not built or compiled, dataset of
        unknown length, fewer than 2 steps, a schedule that would end after this `fit`.

    >>> model.fit(x, y, epochs=10, callbacks=[Prune("one_cycle", sparsity=0.9)])
    """

    def __init__(
        self,
        schedule="one_cycle",
        sparsity: float = 0.5,
        pruner="magnitude",
        *,
        total_steps: int | None = None,
        sparsities=(),
        exclude=(),
        skip_first: bool = False,
        skip_last: bool = False,
        on_divergence: str = "raise",
    ):
        super().__init__()
        self.schedule, self.pruner = schedules.get(schedule), pruners.get(pruner)
        self.sparsity = selection.check_sparsity(sparsity)
        self.total_steps = check_total_steps(total_steps)
        self.sparsities, self.exclude = selection.pairs(sparsities), list(exclude)
        self.skip_first, self.skip_last = skip_first, skip_last
        self.on_divergence = checks.check_choice(on_divergence)

    def set_model(self, model):
        super().set_model(model)
        compiled_model.check_ready(model)
        current = compiled_model.sparse_optimizer(model)
        if current is None or self._asks_for_more(current):
            compiled_model.sparsify(
                model,
                self.schedule,
                self.sparsity,
                self.pruner,
                total_steps=self.total_steps,
                sparsities=self.sparsities,
                exclude=self.exclude,
                skip_first=self.skip_first,
                skip_last=self.skip_last,
            )

    def set_params(self, params):
        super().set_params(params)
        if self.total_steps is None and params.get("steps") is None:
            raise ValueError(
                "The dataset's length is unknown, so a schedule cannot be laid over it. Write fit(..., "
                "steps_per_epoch=...) or Prune(..., total_steps=<epochs x steps per epoch>)."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if getattr(self, "_resolved_for", None) is self.params:
            return
        self._resolved_for = self.params  # once per fit, and only here is the first epoch known
        self._resolve(epoch)
        self._update_ahead = self._next_update()

    def on_train_batch_begin(self, batch, logs=None):
        if self._update_ahead():
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self._check()
        if logs is not None:
            logs["sparsity"] = optimizer.current_sparsity()
            if optimizer.sync_stats.num_syncs:
                logs["mask_bytes"] = optimizer.sync_stats.bytes

    def on_train_end(self, logs=None):
        optimizer = self._optimizer
        if self.total_steps is None and not self._finished(optimizer):
            warnings.warn(
                f"Training ended at step {optimizer.steps_done} of {optimizer.total_steps}, at a sparsity of "
                f"{optimizer.current_sparsity():.4f}: cut to the target {optimizer.sparsity:g} now, without training "
                "after it. To avoid the cut let training run to its end, or pass a smaller total_steps.",
                stacklevel=2,
            )
            optimizer.prune_now()

    @property
    def _optimizer(self):
        return compiled_model.sparse_optimizer(self.model)

    def _next_update(self):
        """Says before which batches masks are about to be updated; on JAX a look at the model synchronises it."""
        optimizer, total = self._optimizer, self._optimizer.total_steps
        steps = np.arange(1, total + 1)
        due = steps[ops.convert_to_numpy(optimizer.schedule.due(steps, total))]
        return checks.NextUpdate(due, self.model.steps_per_execution, lambda: self._optimizer.steps_done)

    def _check(self):
        """See that the last update was sound and that all replicas hold equal masks."""
        optimizer = self._optimizer
        optimizer.raise_nonfinite()
        optimizer.check_replicas(self.on_divergence)
        return optimizer

    def _resolve(self, first_epoch):
        """Fill in the length of the schedule, or refuse a `fit` that ends before it."""
        optimizer = self._optimizer
        if self.total_steps is not None:
            optimizer.set_total_steps(self.total_steps)
            return
        left = (self.params["epochs"] - first_epoch) * self.params["steps"]
        left //= optimizer.gradient_accumulation_steps or 1
        optimizer.set_total_steps(optimizer.total_steps or left)
        if optimizer.steps_done + left < optimizer.total_steps:
            raise ValueError(
                f"The schedule has done {optimizer.steps_done} of {optimizer.total_steps} steps and this fit has only "
                f"{left}, so it would end short of sparsity {optimizer.sparsity:g}. Train for more epochs, or write "
                f"Prune(..., total_steps={optimizer.total_steps}) to spread one schedule over several fits."
            )
        if isinstance(optimizer.inner_optimizer, ChecksTrainingLength):
            optimizer.inner_optimizer.check_training_length(left)

    def _finished(self, optimizer) -> bool:
        """Has the schedule ended, or do the masks hold what it ends with already?"""
        if optimizer.total_steps is not None and optimizer.steps_done >= optimizer.total_steps:
            return True
        asked = int(np.sum(ops.convert_to_numpy(optimizer.target)))
        return optimizer.schedule.final == 1 and optimizer.num_zeros() == asked

    def _asks_for_more(self, optimizer) -> bool:
        """Does this callback want another cycle than the one the model has? Not while one is running."""
        asked = (self.schedule, self.pruner, self.sparsity)
        if asked == (optimizer.schedule, optimizer.pruner, optimizer.sparsity):
            return False
        if optimizer.total_steps is not None and 0 < optimizer.steps_done < optimizer.total_steps:
            raise ValueError(
                f"The model is at step {optimizer.steps_done} of {optimizer.total_steps} of {optimizer.schedule!r} to "
                f"sparsity {optimizer.sparsity:g}; Prune asks for {self.schedule!r} to {self.sparsity:g}. Finish the "
                "one with its own arguments first, or compile the model anew to start afresh."
            )
        return True
