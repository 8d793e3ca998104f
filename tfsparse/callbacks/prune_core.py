"""The callback `Prune` of both roads, without what each Keras forces."""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.callbacks.fit_hooks import FitHooks, warn_of_final_cut
from tfsparse.consistency import checks
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.optimizers.masked_weights import MaskedWeights, check_replicas


class Unfinished(NamedTuple):
    """A schedule that training did not finish.

    Attributes:
        done: Steps of the schedule that are done.
        total: Its length in optimizer steps.
        target: Its final sparsity.
        cut: Prunes to that sparsity now.
    """

    done: int
    total: int
    target: float
    cut: Callable[[], None]


def last_due(due: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """Return the last step of `due`, which ascend, that is no later than each of some steps; 0 where there is none."""
    return np.concatenate([[0], due]).astype(int)[np.searchsorted(due, steps, "right")]


class PruneCore(FitHooks):
    """Sets the schedule before the first step, compares the masks of replicas, and cuts when training ends early.

    Args:
        total_steps: Length of the schedule in optimizer steps; None: all steps of this `fit`.
        on_divergence: "raise" or "repair": what to do if the masks of replicas differ.
        verbose: 1: print in which epochs the model is at its target; 0: print nothing.
    """

    def __init__(self, total_steps: int | None, on_divergence: str, verbose: int):
        super().__init__()
        self.total_steps, self.verbose = total_steps, verbose
        self.on_divergence = checks.check_choice(on_divergence)

    @property
    @abc.abstractmethod
    def _masked_weights(self) -> Sequence[MaskedWeights]:
        """All pruned weights of the model."""

    @property
    @abc.abstractmethod
    def sync_stats(self) -> SyncStats:
        """What the replicas sent each other."""

    @abc.abstractmethod
    def _set_schedule(self, first_epoch: int, num_steps: int | None) -> None:
        """Set the length of the schedule, or refuse a `fit` that ends before it."""

    @abc.abstractmethod
    def _due_steps(self) -> Sequence[int]:
        """Return the steps at which masks are updated, ascending, counted from 1."""

    @abc.abstractmethod
    def _steps_done(self) -> int:
        """Return the steps done, in the count of `_due_steps`."""

    @abc.abstractmethod
    def _at_target_after(self, steps: Sequence[int]) -> list[bool]:
        """Return whether the model will be at its target after each of some steps, in the count of `_due_steps`."""

    @abc.abstractmethod
    def _unfinished(self) -> list[Unfinished]:
        """Return the schedules that have not reached their final sparsity."""

    _update_is_next = staticmethod(lambda: False)  # in a training loop of the user's, without `fit`

    def _begin_fit(self, first_epoch, num_steps):
        self._set_schedule(first_epoch, num_steps)
        per_call = keras_internals.steps_per_execution(self.model)
        self._update_is_next = checks.NextUpdate(self._due_steps(), per_call, self._steps_done)
        if self.verbose:
            print(self._when_at_target(first_epoch))

    def on_train_batch_begin(self, batch, logs=None):
        if self._update_is_next():
            self._check_masks()

    def on_epoch_end(self, epoch, logs=None):
        self._check_masks()
        if logs is not None:
            logs["sparsity"] = self._sparsity()
            logs["at_target"] = int(bool(self.reached_target()))
            if self.sync_stats.num_syncs:
                logs["mask_bytes"] = self.sync_stats.bytes

    def on_train_end(self, logs=None):
        unfinished = self._unfinished() if self.total_steps is None else []
        if unfinished:
            first = unfinished[0]
            warn_of_final_cut(self.model, first.done, first.total, self._sparsity(), first.target, self._num_skipped())
        for schedule in unfinished:
            schedule.cut()

    def _check_masks(self):
        check_replicas(self._masked_weights, self.on_divergence, self.sync_stats)

    def _when_at_target(self, first_epoch):
        """Return one sentence: which epochs of this `fit` end at the target."""
        steps, last = self.params.get("steps"), self.params["epochs"]
        if steps is None:
            return "Prune: which epochs end at the target is not known, since the dataset's length is unknown."
        batches = np.arange(1, last - first_epoch + 1) * steps
        reached = self._at_target_after(self._steps_done() + batches // self._batches_per_step())
        if not reached[-1]:
            return "Prune: no epoch of this fit ends at the target, because the schedule goes on in a later fit."
        if reached.count(True) == 1:
            return f"Prune: only epoch {last} of {last} ends at the target.{self._earlier(last - first_epoch)}"
        first = last - reached[::-1].index(False) + 1 if False in reached else first_epoch + 1
        return f"Prune: from epoch {first} of {last} on, every epoch ends at the target."

    def _earlier(self, num_epochs):
        if num_epochs == 1 or self.schedule is None:
            return ""
        option = "end" if "end" in self.schedule.get_config() else "start"
        earlier = f"{type(self.schedule).__name__}({option}={0.8 if num_epochs > 5 else 0.5})"
        return f" For a choice of epochs, as AtTarget needs it, write {earlier}."

    def _sparsity(self):
        groups = self._masked_weights
        return sum(group.num_zeros() for group in groups) / sum(sum(group.sizes) for group in groups)
