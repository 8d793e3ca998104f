"""The callback `Prune` for wrapped models."""

import tf_keras

from tfsparse import schedules as fraction_schedules
from tfsparse.backend import keras_internals
from tfsparse.callbacks.fit_hooks import warn_of_written_weights
from tfsparse.callbacks.prune_core import PruneCore, Unfinished
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers.validation import check_total_steps
from tfsparse.pruners import selection
from tfsparse.tfmot import schedules
from tfsparse.tfmot.prune import check_active, check_wrapped, rank_globally, set_schedule, wrapped_weights
from tfsparse.tfmot.wrapped_weights import slot_finder


class Prune(PruneCore, tf_keras.callbacks.Callback):
    """Trains a wrapped model sparse: `model.fit(..., callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])`.

    Sets the schedule of the wrappers to the steps of this `fit`. Without a sparsity it keeps the wrappers' own
    schedules and checks that they end within this `fit`. The epochs' logs get `sparsity`: zeros in the masks over
    entries of the pruned weights. TFMOT's `UpdatePruningStep` is not needed beside it and does no harm.

    A schedule that has begun ends at the step that was set for it, also when a later `fit` resumes it. After its end, a
    further `fit` with an equal `Prune` trains on at the target; with other arguments it starts a new schedule from the
    present masks.

    Args:
        schedule: When masks are updated: a schedule of `tfsparse.schedules`, its name or its config. Default: None,
            which is "one_cycle" with a sparsity and the wrappers' own schedules without one.
        sparsity: Target in [0, 1) of every wrapped layer, with scope "global" of all together. Default: None, which
            keeps the wrappers' own schedules.
        total_steps: Length of the schedule in optimizer steps, at least 2. Set it when one schedule, also that of the
            wrappers, spans several calls of `fit`. Default: None, which is all steps of this `fit`.
        on_divergence: What to do if the masks of replicas or workers differ: "raise", or "repair" them from the first
            replica. Default: "raise".

    Raises:
        ValueError: Before the first step, if the target cannot be reached: no wrappers, TFMOT's own wrappers, a dataset
            of unknown length, a schedule that is never due or would end after this `fit`.

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])
    """

    def __init__(
        self,
        schedule=None,
        sparsity: float | None = None,
        *,
        total_steps: int | None = None,
        on_divergence: str = "raise",
    ):
        super().__init__(check_total_steps(total_steps), on_divergence)
        if sparsity is None and schedule is not None:
            raise ValueError(f"Prune got a schedule and no sparsity: write Prune({schedule!r}, sparsity=0.9).")
        self.schedule = None if sparsity is None else fraction_schedules.get(schedule or "one_cycle")
        self.sparsity = None if sparsity is None else selection.check_sparsity(sparsity)
        self._sync_stats = SyncStats()

    def set_model(self, model):
        super().set_model(model)
        check_wrapped(model)
        rank_globally(model)
        check_active(model)

    def on_epoch_end(self, epoch=None, logs=None, batch=None):
        """Apply the masks. TFMOT's documented training loop passes `batch` in place of the epoch."""
        super().on_epoch_end(epoch, logs)
        self._apply_masks()

    def on_train_end(self, logs=None):
        self._apply_masks()  # averages may have overwritten the weights
        super().on_train_end(logs)
        self._promised = {id(g): g.num_zeros() for g in self._masked_weights if self._has_ended(g)}
        keras_internals.after_train_end(self, self._prune_written_weights)

    def _has_ended(self, group):
        """Return whether the schedule of a group has reached its final sparsity, by its last step or by a cut."""
        has_final = schedules.final_sparsity(group.schedule) is not None
        return has_final and (self.total_steps is None or not _is_unfinished(group))

    def _prune_written_weights(self):
        """Prune again what another callback has written at the end: the weights, or with them the masks of an epoch."""
        for group in self._masked_weights:
            is_denser = group.num_zeros() < self._promised.get(id(group), 0)
            if is_denser or sum(group.num_broken()):
                before = group.weight_sparsity()
                if is_denser:
                    group.prune_now(schedules.final_sparsity(group.schedule))
                group.weight_mask_op()
                warn_of_written_weights(before, group.sparsity())

    @property
    def _masked_weights(self):
        return wrapped_weights(self.model)

    @property
    def sync_stats(self):
        return self._sync_stats

    def _apply_masks(self):
        for group in self._masked_weights:
            group.weight_mask_op()

    def _set_schedule(self, first_epoch, num_steps):
        find = slot_finder(self.model)
        for group in self._masked_weights:
            if self.schedule is not None and not self._runs_already(group):
                set_schedule(self.model, group, self._step_schedule(group, first_epoch, num_steps))
            if self.total_steps is None:
                _check_ends(group, group.num_steps() + num_steps)
            group.warn_of_missed()
            # else no weight returns, so no slot needs to be emptied
            if schedules.may_fall(group.schedule) or group.has_smaller_units:
                group.find_slots = find
            group.weight_mask_op()
        self._last_step = None if num_steps is None else self._steps_done() + num_steps

    def _runs_already(self, group) -> bool:
        """Whether the wrappers have begun, or ended, the schedule that this callback asks for."""
        own = isinstance(group.schedule, schedules.StepSchedule) and (group.schedule.formula, group.schedule.sparsity)
        return group.num_steps() > 0 and own == (self.schedule, self.sparsity)

    def _step_schedule(self, group, first_epoch, num_steps):
        done, steps, begin, start = group.num_steps(), self.params.get("steps"), 0, 0.0
        if steps is not None and done >= (first_epoch + 1) * steps:  # trained before this fit, and not resumed by it
            begin, start = done, group.sparsity()
        all_steps = num_steps if begin or num_steps is None else num_steps + first_epoch * steps
        end = begin + (self.total_steps or all_steps)
        return schedules.StepSchedule(self.schedule, self.sparsity, end, begin, start)

    def _due_steps(self):
        if self.model.distribute_strategy.num_replicas_in_sync == 1:
            return []  # nobody to compare with
        found, done = {group.schedule for group in self._masked_weights}, self._steps_done()
        last = self._last_step or max(schedules.end_step(schedule) for schedule in found)
        return sorted({step for schedule in found for step in schedules.due_steps(schedule, done + 1, last)})

    def _steps_done(self):
        return max(group.num_steps() for group in self._masked_weights)

    def _unfinished(self):
        return [_unfinished(group) for group in self._masked_weights if _is_unfinished(group)]


def _is_unfinished(group):
    has_final = schedules.final_sparsity(group.schedule) is not None
    return has_final and group.num_steps() < schedules.end_step(group.schedule)


def _unfinished(group):
    final = schedules.final_sparsity(group.schedule)
    return Unfinished(group.num_steps(), schedules.end_step(group.schedule), final, lambda: group.prune_now(final))


def _check_ends(group, last):
    """Refuse a schedule that has not ended by step `last`, or that is never due in the steps until then."""
    schedule, name, done = group.schedule, group.wrappers[0].name, group.num_steps()
    end = schedules.end_step(schedule)
    if end > last:
        raise ValueError(
            f"The schedule of {name}, {schedules.describe(schedule)}, ends at step {end} and this fit at step {last}, "
            f"short of its target. Train for more epochs, set end_step={last}, let Prune set it: "
            "tfsparse.tfmot.Prune('one_cycle', sparsity=0.9), or spread it over several fits: "
            f"tfsparse.tfmot.Prune(total_steps={end})."
        )
    if not 0 <= end <= done and not schedules.fires(schedule, done + 1, last):
        raise ValueError(
            f"The schedule of {name}, {schedules.describe(schedule)}, never fires in steps {done + 1} to {last}. Let "
            "Prune set it: tfsparse.tfmot.Prune('one_cycle', sparsity=0.9)."
        )
