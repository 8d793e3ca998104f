"""The callback `Prune` of both roads, without what each Keras forces."""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class PruneCore(FitHooks):
    """Sets the schedule before the first step, compares the masks of replicas, and cuts when training ends early.

    Args:
        total_steps: Length of the schedule in optimizer steps; None: all steps of this `fit`.
        on_divergence: "raise" or "repair": what to do if the masks of replicas differ.
    """

    def __init__(self, total_steps: int | None, on_divergence: str):
        super().__init__()
        self.total_steps = total_steps
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
    def _unfinished(self) -> list[Unfinished]:
        """Return the schedules that have not reached their final sparsity."""

    _update_is_next = staticmethod(lambda: False)  # in a training loop of the user's, without `fit`

    def _begin_fit(self, first_epoch, num_steps):
        self._set_schedule(first_epoch, num_steps)
        per_call = keras_internals.steps_per_execution(self.model)
        self._update_is_next = checks.NextUpdate(self._due_steps(), per_call, self._steps_done)

    def on_train_batch_begin(self, batch, logs=None):
        if self._update_is_next():
            self._check_masks()

    def on_epoch_end(self, epoch, logs=None):
        self._check_masks()
        if logs is not None:
            logs["sparsity"] = self._sparsity()
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

    def _sparsity(self):
        groups = self._masked_weights
        return sum(group.num_zeros() for group in groups) / sum(sum(group.sizes) for group in groups)
