"""The callback `Prune` for wrapped models, and what it shares with those of the methods."""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import tf_keras

from tfsparse import schedules as fraction_schedules
from tfsparse.backend import keras_internals
from tfsparse.backend.variables import zero_fraction
from tfsparse.callbacks.fit_hooks import check_only_callback, warn_of_written_weights
from tfsparse.callbacks.prune_core import PruneCore, Unfinished, last_due
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers.validation import check_total_steps
from tfsparse.pruners import selection
from tfsparse.tfmot import schedules
from tfsparse.tfmot.prune import prepare, reached_target, set_schedule, wrapped_weights
from tfsparse.tfmot.wrapped_weights import WrappedWeights, slot_finder


class Promise(NamedTuple):
    """What training has reached, which other callbacks may undo: masks are weights of the model, too.

    Attributes:
        group: The pruned weights.
        num_zeros: Zeros in their masks.
        cut: Prunes to as many zeros again.
    """

    group: WrappedWeights
    num_zeros: int
    cut: Callable[[], None]

    def is_broken(self) -> bool:
        """Return whether zeros are missing; units of several sizes under one threshold meet a count to within one."""
        return self.num_zeros - self.group.num_zeros() >= self.group.largest_unit()


class WrappedTraining:
    """Mixed into a callback of tf_keras that prunes a wrapped model, before `FitHooks`.

    fit:                    refused if another callback prunes the model in it too
    after all callbacks:    what one of them has restored, weights or with them masks, is pruned again, with a warning
    """

    def set_model(self, model):
        prepare(model)
        super().set_model(model)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        advice = "layers that are wrapped with schedules of their own are pruned together by Prune()."
        check_only_callback(self, self.model, advice)

    def on_train_end(self, logs=None):
        self._apply_masks()  # averages may have overwritten the weights
        super().on_train_end(logs)
        promises = self._promises()
        keras_internals.after_train_end(self, lambda: self._prune_restored(promises))

    def _promises(self) -> list[Promise]:
        """Return what training has reached; a method with a cut of its own looks after that itself."""
        return []

    def _apply_masks(self):
        for group in wrapped_weights(self.model):
            group.weight_mask_op()

    def _prune_restored(self, promises):
        groups = wrapped_weights(self.model)
        denser = [promise for promise in promises if promise.is_broken()]
        if denser or any(sum(group.num_broken()) for group in groups):
            before = zero_fraction([weight for group in groups for weight in group.weights])
            for promise in denser:
                promise.cut()
            self._apply_masks()
            warn_of_written_weights(before, zero_fraction([mask for group in groups for mask in group.masks]))


class Prune(WrappedTraining, PruneCore, tf_keras.callbacks.Callback):
    """Trains a wrapped model sparse: `model.fit(..., callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])`.

    Sets the schedule of the wrappers to the steps of this `fit`. Without a sparsity it keeps the wrappers' own
    schedules and checks that they end within this `fit`. The epochs' logs get `sparsity`, zeros in the masks over
    entries of the pruned weights, and `at_target`, 1 if every schedule has ended or its masks have their last count,
    else 0. TFMOT's `UpdatePruningStep` is not needed beside it and does no harm.

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
        verbose: 1: print one line before the first epoch, which says which epochs end at the target. 0: print nothing.
            Default: 0, as in the callbacks of Keras.

    Raises:
        ValueError: Before the first step, if the target cannot be reached: no wrappers, TFMOT's own wrappers, a dataset
            of unknown length, a schedule that is never due or would end after this `fit`, another callback that prunes
            the model. After the first epoch, if no optimizer of tf_keras has made a step.

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
        verbose: int = 0,
    ):
        super().__init__(check_total_steps(total_steps), on_divergence, verbose)
        if sparsity is None and schedule is not None:
            raise ValueError(f"Prune got a schedule and no sparsity: write Prune({schedule!r}, sparsity=0.9).")
        self.schedule = None if sparsity is None else fraction_schedules.get(schedule or "one_cycle")
        self.sparsity = None if sparsity is None else selection.check_sparsity(sparsity)
        self._sync_stats = SyncStats()
        self._steps_before = self._steps_seen = {}  # of each group: before this fit, and at the last end of an epoch
        self._num_batches = 0

    def on_epoch_end(self, epoch=None, logs=None, batch=None):
        """Apply the masks. TFMOT's documented training loop passes `batch` in place of the epoch."""
        super().on_epoch_end(epoch, logs)
        self._apply_masks()
        if self._steps_before:  # else it is a training loop without fit
            if not self._steps_seen:
                self._check_trained()
            self._steps_seen = self._steps()
            self._num_batches += self.params.get("steps") or 0

    def on_train_end(self, logs=None):
        if self._steps_before and not self._trained():
            warnings.warn(
                "No optimizer step was made, so the target is not reached: float16 loss scaling skipped all steps, "
                "because gradients were not finite. It halves the scale each time: train longer.",
                stacklevel=2,
            )
        super().on_train_end(logs)

    def reached_target(self) -> bool | None:
        """Return whether the schedules have ended, or the masks have as many zeros as then; None if they do not say."""
        return reached_target(self.model)

    @property
    def _masked_weights(self):
        return wrapped_weights(self.model)

    @property
    def sync_stats(self):
        return self._sync_stats

    def _set_schedule(self, first_epoch, num_steps):
        find, self._steps_seen, self._num_batches = slot_finder(self.model), {}, 0
        self._steps_before = self._steps()
        for group in self._masked_weights:
            if self.schedule is not None and not self._runs_already(group):
                set_schedule(self.model, group, self._step_schedule(group, first_epoch, num_steps))
            if self.total_steps is None:
                _check_ends(group, group.num_steps() + num_steps)
            group.check_bounds()
            group.warn_of_missed()
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

    def _at_target_after(self, steps):
        first, last = self._steps_done() + 1, int(steps[-1])
        groups = self._masked_weights
        due = {group.schedule: schedules.due_steps(group.schedule, first, last) for group in groups}
        each = [group.at_target_after(steps, last_due(due[group.schedule], steps)) for group in groups]
        return [all(reached) for reached in zip(*each, strict=True)]

    def _steps_done(self):
        return max(group.num_steps() for group in self._masked_weights)

    def _steps(self):
        """Return the steps of each group; those seen last, if another callback has put them back to an epoch's."""
        return {group: max(group.num_steps(), self._steps_seen.get(group, 0)) for group in self._masked_weights}

    def _trained(self):
        """Return the groups with steps in this fit, and their steps: not a network that only teaches another one."""
        return {group: steps for group, steps in self._steps().items() if steps != self._steps_before.get(group)}

    def _check_trained(self):
        """Say what the first epoch has not trained; with loss scaling it may have skipped all steps."""
        trained = self._trained()
        untrained = [group.name for group in self._masked_weights if group not in trained]
        if untrained and not self._scales_loss and not trained:
            raise ValueError(
                f"No optimizer of tf_keras has made a step on {untrained[0]} in this epoch, so nothing is pruned: "
                "weights are masked where apply_gradients applies their constraints. Write "
                f"optimizer.apply_gradients(...) in train_step of {type(self.model).__name__}."
            )
        if untrained and not self._scales_loss:
            warnings.warn(
                f"No optimizer trains {', '.join(untrained)}: they are not pruned at the end. Freeze them before "
                "compile if they are not to be trained.",
                stacklevel=2,
            )

    @property
    def _scales_loss(self):
        return isinstance(self.model.optimizer, tf_keras.mixed_precision.LossScaleOptimizer)

    def _num_skipped(self):
        if not self._scales_loss or not self._steps_seen:
            return 0
        return max(self._num_batches - max(self._steps_seen.values()) + max(self._steps_before.values()), 0)

    def _unfinished(self):
        trained = self._trained().items()
        short = [each for each in trained if each[0].is_unfinished(each[1]) and not each[0].reached_target()]
        return [_unfinished(group, steps) for group, steps in short]

    def _promises(self):
        trained, goes_on = self._trained().items(), self.total_steps is not None
        ended = [group for group, steps in trained if not (goes_on and group.is_unfinished(steps))]
        return [Promise(g, sum(g.final_counts() or []), functools.partial(_cut, g)) for g in ended]


def _unfinished(group, steps):
    final = schedules.final_sparsity(group.schedule)
    return Unfinished(steps, schedules.end_step(group.schedule), final, functools.partial(_cut, group))


def _cut(group):
    group.prune_now(schedules.final_sparsity(group.schedule))


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
