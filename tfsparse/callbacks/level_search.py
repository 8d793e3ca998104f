"""How `Prune` knows its target: it is given, or `sparsity="auto"` searches for it at the end of every epoch."""

import abc
import dataclasses
import math
import warnings

import numpy as np

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.callbacks.search_state import SearchState, after_epoch
from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.evaluation import check_metric, evaluate
from tfsparse.schedules import Auto


class TargetRule(abc.ABC):
    """How `Prune` knows its target."""

    @abc.abstractmethod
    def prepare(self, model) -> None:
        """Prepare a model whose `SparseOptimizer` is new or loaded."""

    @abc.abstractmethod
    def check_length(self, num_epochs: float) -> None:
        """Refuse a schedule of too few epochs."""

    @abc.abstractmethod
    def end_epoch(self, model, logs: dict, verbose: int) -> None:
        """Decide at the end of an epoch, and add to its logs what was seen."""

    @abc.abstractmethod
    def end_training(self, model) -> None:
        """Decide when training ends, also if it ends early."""

    @abc.abstractmethod
    def is_known(self, optimizer) -> bool:
        """Return whether the target is known by now."""

    @abc.abstractmethod
    def plan(self) -> str | None:
        """Return one sentence on when the target will be known; None if it is known."""


class GivenTarget(TargetRule):
    """The target is the argument of `Prune`."""

    def prepare(self, model):
        pass

    def check_length(self, num_epochs):
        pass

    def end_epoch(self, model, logs, verbose):
        pass

    def end_training(self, model):
        pass

    def is_known(self, optimizer):
        return True

    def plan(self):
        return None


class LevelSearch(TargetRule):
    """The target is the highest level of `Auto` at which validation holds.

    Its state is in variables of the optimizer, so a resumed training decides as the straight one. Pruners that zero
    weights also get a copy of the weights of the highest level that held, to return to it.

    Args:
        schedule: The levels, and when they are tried.
        validation: Arrays `(x, y)` or a dataset; None: the validation data of `fit`.
    """

    def __init__(self, schedule: Auto, validation=None):
        self.schedule, self.validation = schedule, validation

    def prepare(self, model):
        compiled_model.check_ready(model)
        optimizer = compiled_model.sparse_optimizer(model)
        if "search" in optimizer.extra_state:
            return
        base = optimizer.current_sparsity()
        if base >= self.schedule.levels[-1]:
            raise ValueError(
                f"{model.name!r} has {base:.4f} zeros, and the last level of {self.schedule!r} is "
                f"{self.schedule.levels[-1]:g}: write higher levels."
            )
        values = {} if optimizer.pruner.straight_through else _held_values(optimizer.mask_state)
        optimizer.add_extra_state({"search": SearchState(level=base, base=base).dump(), **values})
        optimizer.set_target_sparsity(0.0)

    def check_length(self, num_epochs):
        begin, end = self.schedule.dense_until * num_epochs, self.schedule.search_until * num_epochs
        if math.ceil(begin - 1e-6) + 1 > end + 1e-6:
            raise ValueError(
                f'Training has {num_epochs:g} epochs, and sparsity="auto" tries no level in it: of {self.schedule!r} '
                "at least one epoch must begin and end between dense_until and search_until. Train for more epochs."
            )

    def is_known(self, optimizer):
        state = _read(optimizer)
        return state.is_final and optimizer.steps_done > state.final_step  # not before an epoch at this level

    def plan(self):
        return (
            f"Prune: dense until {self.schedule.dense_until:.0%} of training, then a search for the highest sparsity "
            f"that holds, until {self.schedule.search_until:.0%} at most."
        )

    def end_epoch(self, model, logs, verbose):
        optimizer = compiled_model.sparse_optimizer(model)
        before, (metric, shown) = _read(optimizer), self._measure(model, logs)
        sign = -1 if metric == "loss" else 1
        if not math.isfinite(shown):
            return
        now = self._judged(before, optimizer, sign * shown)
        holds, limit = now.holds(self.schedule.drop), sign * (now.reference - self.schedule.drop)
        logs |= {"level_holds": int(holds), "drop_limit": limit}
        if verbose:
            does = "holds" if holds else "misses the limit"
            print(f"Prune: {metric} {shown:.4f} at sparsity {optimizer.current_sparsity():.4f} {does} {limit:.4f}.")
        self._follow(optimizer, before, now)
        if now.is_final and not before.is_final and now.level <= now.base:
            _warn_of_none(metric, sign, now, before, self.schedule.drop)

    def end_training(self, model):
        optimizer = compiled_model.sparse_optimizer(model)
        state = _read(optimizer)
        if not state.is_final:
            level = state.level if state.num_epochs else max(state.held, state.base)
            self._write(optimizer, dataclasses.replace(state, level=level, final_step=optimizer.steps_done))
            optimizer.mask_state.set_target_counts(optimizer.mask_state.zeros_of_each())
            warnings.warn(
                "Training ended before the search for a sparsity did: the model stays at "
                f"{optimizer.current_sparsity():.4f}, and higher levels were not tried.",
                stacklevel=4,
            )
        elif not state.holds(self.schedule.drop):
            warnings.warn(
                f"The last epoch misses the limit: its validation is {abs(state.value):.4f}, the best epoch's "
                f"{abs(state.best):.4f}, and drop={self.schedule.drop:g}. Write lower levels or a larger drop.",
                stacklevel=4,
            )

    def _measure(self, model, logs):
        """Return the metric's name and its value on the validation data; NaN if this epoch has none."""
        if self.validation is not None:
            results = evaluate(model, self.validation)
        else:
            results = {key.removeprefix("val_"): value for key, value in logs.items() if key.startswith("val_")}
        if not results:
            raise ValueError(
                'sparsity="auto" needs validation data in every epoch, and this one had none: write fit(..., '
                "validation_data=(x, y)), or Prune(..., validation=(x, y))."
            )
        metric = check_metric(self.schedule.metric, results)
        return metric, float(results[metric])

    def _judged(self, state, optimizer, value):
        """Return the state after an epoch; before `dense_until` only the best value counts."""
        step, total = optimizer.steps_done, optimizer.total_steps
        num_left = int((self.schedule.search_until * total - step) / max(step - state.last_step, 1) + 1e-3)
        if step < self.schedule.dense_until * total - 1e-3:
            now = dataclasses.replace(state.with_value(value), num_left=num_left)
        else:
            now = after_epoch(state, self.schedule, value, step, num_left)
        dense = value if state.level <= state.base and not state.is_final else state.dense
        return dataclasses.replace(now, dense=dense, last_step=step)

    def _follow(self, optimizer, before, now):
        """Make the optimizer follow a decision: the next mask update prunes to the level."""
        with replicas.strategy_scope(optimizer):
            if now.held > before.held:
                _keep_values(optimizer)
            if now.level < before.level:
                _return_to_kept_values(optimizer)
            if now.level != before.level:
                optimizer.set_target_sparsity(0.0 if now.level <= now.base else _decimal(now.level))
            self._write(optimizer, now)

    @staticmethod
    def _write(optimizer, state):
        optimizer.extra_state["search"].assign(state.dump())


def for_prune(schedule, validation) -> TargetRule:
    """Return how `Prune` knows its target.

    Args:
        schedule: Its schedule.
        validation: Its argument `validation`.

    Raises:
        ValueError: If there is validation data that nothing would read.
    """
    if isinstance(schedule, Auto):
        return LevelSearch(schedule, validation)
    if validation is not None:
        raise ValueError('validation=... belongs to sparsity="auto": write sparsity="auto", or leave validation out.')
    return GivenTarget()


def _read(optimizer) -> SearchState:
    return SearchState.load(backend_ops.to_numpy(optimizer.extra_state["search"]))


def _decimal(level):
    """Return the shortest decimal number that is the same float32: 0.9, not 0.8999999761."""
    return float(str(np.float32(level)))


def _held_values(state):
    pairs = zip(state.indices, state.weights, strict=True)
    return {f"held_{index}": backend_ops.to_numpy(weight) for index, weight in pairs}


def _keep_values(optimizer):
    """Keep the weights of the level that holds now, for a pruner that zeroes weights."""
    for name, value in _held_values(optimizer.mask_state).items():
        if name in optimizer.extra_state:
            optimizer.extra_state[name].assign(value)


def _return_to_kept_values(optimizer):
    """Let the weights live that lived when the last level held, with the values that they had then."""
    state, kept = optimizer.mask_state, optimizer.extra_state
    for index, weight, mask in zip(state.indices, state.weights, state.masks, strict=True):
        if f"held_{index}" not in kept:
            return
        value, now, lives = (backend_ops.to_numpy(v) for v in (kept[f"held_{index}"], weight, mask))
        returns = (lives == 0) & (value != 0)
        weight.assign(np.where(returns, value, now).astype(now.dtype))
        mask.assign(np.where(returns, 1, lives).astype(lives.dtype))


def _warn_of_none(metric, sign, now, before, drop):
    """Warn that the search found no level."""
    dense = f"{metric} {sign * now.dense:.4f} at its last epoch before pruning"
    if now.held < 0:
        reason = f"the network itself has {dense}, and {sign * now.best:.4f} at its best"
    else:
        reason = f"it has {metric} {sign * now.value:.4f} at sparsity {_decimal(before.level):g}, and {dense}"
    warnings.warn(
        f"No level holds at drop={drop:g}, so the network is not pruned: {reason}. Train longer, write a larger drop, "
        "or take more validation data.",
        stacklevel=5,
    )
