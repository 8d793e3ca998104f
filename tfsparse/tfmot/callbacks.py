"""The one callback for wrapped models."""

import warnings

import tf_keras

from tfsparse import schedules as formulas
from tfsparse.consistency import checks
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers.validation import check_total_steps
from tfsparse.pruners import selection
from tfsparse.tfmot import schedules, slots
from tfsparse.tfmot.prune import check_wrapped, lay, prunings, rank_globally
from tfsparse.tfmot.pruning import native


class Prune(tf_keras.callbacks.Callback):
    """Train a wrapped model sparse: `model.fit(..., callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])`.

    Lays the schedule over the steps of this `fit`, or leaves the wrappers the ones they have and makes sure that they
    end within it. `sparsity` (zeros in the masks over entries of the pruned weights) joins the loss in the progress bar
    and in the history. TFMOT's `UpdatePruningStep` is not needed beside it and does no harm.

    A schedule, once begun, ends at the step where it said it would: a `fit` that resumes it continues it. When it has
    ended, a further `fit` with an equal `Prune` trains on at the target; another one begins a new cycle from the masks
    that are there.

    Args:
        schedule: as for `tfsparse.Prune`, in fractions of training; None: "one_cycle" if a sparsity is given, else the
            wrappers' own schedules.
        sparsity: target in [0, 1) of every wrapped layer (of all together with scope "global").
        total_steps: length of the schedule; None: all of this `fit`, `epochs x steps`.
        on_divergence: as for `tfsparse.Prune`: "raise" or "repair" if the replicas' or the workers' masks differ.

    Raises: ValueError before the first step if the target cannot be reached: no wrappers, TFMOT's own wrappers, dataset
        of unknown length, a schedule that never fires or would end after this `fit`.

    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])
    """

    def __init__(
        self,
        schedule=None,
        sparsity: float | None = None,
        total_steps: int | None = None,
        on_divergence: str = "raise",
    ):
        super().__init__()
        if sparsity is None and (schedule is not None or total_steps is not None):
            name = schedule or "one_cycle"
            raise ValueError(f"Prune got a schedule and no sparsity: write Prune({name!r}, sparsity=0.9).")
        self.formula = None if sparsity is None else formulas.get(schedule or "one_cycle")
        self.sparsity = None if sparsity is None else selection.check_sparsity(sparsity)
        self.total_steps = check_total_steps(total_steps)
        self.on_divergence, self.sync_stats = checks.check_choice(on_divergence), SyncStats()

    def set_model(self, model):
        super().set_model(model)
        check_wrapped(model)
        rank_globally(model)

    def set_params(self, params):
        super().set_params(params)
        if params.get("steps") is None and self.total_steps is None:
            raise ValueError(
                "The dataset's length is unknown, so a schedule cannot be laid over it. Write fit(..., "
                "steps_per_epoch=...), or Prune(..., sparsity=0.9, total_steps=<epochs x steps per epoch>)."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if getattr(self, "_resolved_for", None) is self.params:
            return
        self._resolved_for = self.params  # once per fit, and only here is the first epoch known
        self._resolve(epoch)
        find = slots.finder(self.model)
        for pruning in self._prunings:
            if schedules.may_fall(pruning.schedule):  # else no weight returns
                pruning.slots = find
            pruning.weight_mask_op()
        self._update_ahead = self._next_update(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        if self._update_ahead():
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        self._check()
        for pruning in self._prunings:
            pruning.weight_mask_op()
        if logs is not None:
            zeros, entries = (sum(n) for n in zip(*(p.zeros() for p in self._prunings), strict=True))
            logs["sparsity"] = zeros / entries
            if self.sync_stats.num_syncs:
                logs["mask_bytes"] = self.sync_stats.bytes

    def on_train_end(self, logs=None):
        for pruning in self._prunings:
            pruning.weight_mask_op()  # averages may have overwritten the weights
        unfinished = [p for p in self._prunings if _is_unfinished(p)] if self.total_steps is None else []
        for pruning in unfinished:
            pruning.prune_now(schedules.final_sparsity(pruning.schedule))
        if unfinished:
            done, schedule = int(unfinished[0].steps), unfinished[0].schedule
            warnings.warn(
                f"Training ended at step {done} of {schedule.end_step}: cut to the target "
                f"{schedules.final_sparsity(schedule):g} now, without training after it. To avoid the cut let training "
                "run to its end, or pass a smaller total_steps.",
                stacklevel=2,
            )

    @property
    def _prunings(self) -> list:
        return prunings(self.model)

    def _next_update(self, first_epoch):
        """Says before which batches masks are about to be updated."""
        if self.model.distribute_strategy.num_replicas_in_sync == 1:
            return lambda: False  # nobody to compare with
        found, done = {p.schedule for p in self._prunings}, self._steps_done()
        ends = [getattr(schedule, "end_step", -1) for schedule in found]
        last = done + self._left(first_epoch) if self.params.get("steps") else max(ends)
        due = sorted({step for schedule in found for step in schedules.due_steps(schedule, done + 1, last)})
        return checks.NextUpdate(due, int(self.model._steps_per_execution.numpy()), self._steps_done)

    def _steps_done(self) -> int:
        return max(int(p.steps) for p in self._prunings)

    def _check(self):
        """See that all replicas, of all workers, hold equal masks."""
        pruned = [variables for p in self._prunings for variables in p.pruning_vars]
        weights, masks = [native(weight) for weight, *_ in pruned], [mask for _, mask, _ in pruned]
        checks.check_masks(
            masks, [w.name for w in weights], self.on_divergence, lambda: self._dependents(weights), self.sync_stats
        )

    def _dependents(self, weights):
        find = slots.finder(self.model)
        return [v for weight in weights for v in (weight, *find(weight))]

    def _resolve(self, first_epoch):
        """Lay the schedules over the steps, and refuse a `fit` that ends before them."""
        for pruning in self._prunings:
            done = int(pruning.steps)
            if self.formula is not None and not self._runs(pruning.schedule, done):
                self._lay(pruning, done, first_epoch)
            if self.total_steps is None:
                _check_ends(pruning, done, done + self._left(first_epoch))

    def _left(self, first_epoch) -> int:
        return (self.params["epochs"] - first_epoch) * self.params["steps"]

    def _runs(self, schedule, done) -> bool:
        """Is what this callback asks for under way, or done?"""
        asked = isinstance(schedule, schedules.StepSchedule) and (schedule.formula, schedule.sparsity)
        return done > 0 and asked == (self.formula, self.sparsity)

    def _lay(self, pruning, done, first_epoch):
        steps, begin, start = self.params.get("steps"), 0, 0.0
        if steps is not None and done >= (first_epoch + 1) * steps:  # trained before this fit, and not resumed by it
            zeros, entries = pruning.zeros()
            begin, start = done, zeros / entries
        end = begin + self.total_steps if self.total_steps else begin + self._left(0 if begin == 0 else first_epoch)
        lay(self.model, pruning, schedules.StepSchedule(self.formula, self.sparsity, end, begin, start))


def _is_unfinished(pruning) -> bool:
    final, end = schedules.final_sparsity(pruning.schedule), getattr(pruning.schedule, "end_step", -1)
    return final is not None and int(pruning.steps) < end


def _check_ends(pruning, done, last):
    """Refuse a schedule that has not ended by step `last`, or that never fires in the steps until then."""
    schedule, name = pruning.schedule, pruning.wrappers[0].name
    end = getattr(schedule, "end_step", -1)
    if end > last:
        raise ValueError(
            f"The schedule of {name}, {schedules.describe(schedule)}, ends at step {end} and this fit at step {last}, "
            f"short of its target. Train for more epochs, set end_step={last}, or let Prune lay it over "
            "training: tfsparse.tfmot.Prune('one_cycle', sparsity=0.9)."
        )
    if not 0 <= end <= done and not schedules.fires(schedule, done + 1, last):
        raise ValueError(
            f"The schedule of {name}, {schedules.describe(schedule)}, never fires in steps {done + 1} to {last}. Let "
            "Prune lay it over training: tfsparse.tfmot.Prune('one_cycle', sparsity=0.9)."
        )
