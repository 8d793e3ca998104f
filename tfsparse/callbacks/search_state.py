"""When a search for the sparsity tries the next level, goes back, and ends."""

import dataclasses
import math

from tfsparse.backend.variables import SavedNumbers
from tfsparse.schedules import Auto


@dataclasses.dataclass
class SearchState(SavedNumbers):
    """How far a search is. It is saved with the optimizer. Of a loss, the values are those of -loss.

    Attributes:
        level: The sparsity on trial, or the result.
        final_step: Optimizer step at which the search ended; -1 before it did.
        base: Sparsity before the search; that of the dense network is 0.
        held: The highest sparsity that held; -1 before one did.
        missed: The lowest sparsity that missed the limit; 1 if none did.
        best: Largest value of all epochs.
        rise: Mean rise of `best` in an epoch; an epoch weighs half as much as the next one. NaN before the second.
        reference: Value that the last epoch was compared with; after the search `best`.
        value: Value of the last epoch.
        dense: Value of the last epoch before anything was pruned.
        num_epochs: Epochs of the trial that are done.
        num_left: Epochs that were left for the search when the trial began.
        last_step: Optimizer step at the end of the last epoch.
    """

    level: float = 0
    final_step: float = -1
    base: float = 0
    held: float = -1
    missed: float = 1
    best: float = -math.inf
    rise: float = math.nan
    reference: float = -math.inf
    value: float = math.nan
    dense: float = math.nan
    num_epochs: float = 0
    num_left: float = 0
    last_step: float = 0

    @property
    def is_final(self) -> bool:
        """Whether the search has ended."""
        return self.final_step >= 0

    def holds(self, drop: float) -> bool:
        """Return whether the last epoch is at most `drop` below the reference."""
        return self.value >= self.reference - drop - 1e-6

    def with_value(self, value: float) -> "SearchState":
        """Return the state after an epoch with this value, before anything is decided.

            reference = best of the epochs before + rise / 2        of the first epoch: its value
        """
        best, rise = max(self.best, value), self.rise
        if self.is_final or math.isinf(self.best):
            reference = best
        else:
            reference = self.best + (0 if math.isnan(rise) else rise / 2)
        if math.isfinite(self.best):
            rise = best - self.best if math.isnan(rise) else (rise + best - self.best) / 2
        return dataclasses.replace(self, value=value, best=best, rise=rise, reference=reference)


def after_epoch(state: SearchState, schedule: Auto, value: float, step: int, num_left: int) -> SearchState:
    """Return the state after an epoch that the search counts.

    Args:
        state: The state before.
        schedule: The schedule.
        value: The metric; of a loss, -loss.
        step: Optimizer steps that are done.
        num_left: Epochs that are left for the search.
    """
    state = dataclasses.replace(state.with_value(value), num_epochs=state.num_epochs + 1)
    holds = state.holds(schedule.drop)
    if state.is_final or (not holds and num_left > 0 and _may_go_on(state, schedule)):
        return state
    if holds:
        state.held = state.level
    else:
        state.missed = state.level
    best = max(state.held, state.base)
    following = schedule.next_level(best, state.missed) if num_left > 0 else None
    if following is None:
        return dataclasses.replace(state, level=best, final_step=step)
    return dataclasses.replace(state, level=following, num_epochs=0, num_left=num_left)


def _may_go_on(state, schedule):
    """Return whether a level that has missed may train on. The dense network always may."""
    share = schedule.num_epochs(state.level, int(state.num_left))
    if schedule.next_level(max(state.held, state.base), state.level) is None:  # nothing else is left to try
        share = max(share, state.num_left // 2)
    return state.level <= state.base or state.num_epochs < share
