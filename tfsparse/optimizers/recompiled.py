"""What `compile` forgets: it gives a model a new optimizer, without the masks and the position in the schedule."""

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops


class Position(NamedTuple):
    """Where a `SparseOptimizer` is in its schedule, also when it is gone.

    Masks and slots are not here, so that their memory is free: the zeros of the weights show the masks.

    Attributes:
        request: Schedule, pruner and sparsity.
        iterations: Variable: the optimizer's steps.
        begin: Variable: the step before the first one of the schedule.
        total_steps: Variable: the length of the schedule in steps.
        start: Variable: zeros of each weight at the first step.
        target: Variable: zeros of each weight at the last step.
    """

    request: tuple
    iterations: keras.Variable
    begin: keras.Variable
    total_steps: keras.Variable
    start: keras.Variable
    target: keras.Variable

    @property
    def steps_done(self) -> int:
        return backend_ops.to_int(self.iterations) - backend_ops.to_int(self.begin)

    def is_in_progress(self) -> bool:
        return 0 < self.steps_done < backend_ops.to_int(self.total_steps)


class _Record(NamedTuple):
    """The last position of a weight, and its index among the weights there."""

    weight: weakref.ref
    position: Position
    index: int


_records = {}  # by the id of a weight; keras.Variable has no hash


def record(optimizer, state) -> None:
    """Let `last_records` know where an optimizer is, now and after all later steps.

    Args:
        optimizer: A `SparseOptimizer`.
        state: Its `MaskState`, with all weights that it was built on.
    """
    position = Position(
        _request(optimizer), optimizer.iterations, state.begin, state.total_steps, state.start, state.target
    )
    for index, weight in enumerate(state.weights):
        _records[id(weight)] = _Record(weakref.ref(weight, _removal(id(weight))), position, index)


def last_records(weights: Sequence) -> dict:
    """Return what is known of weights that a `SparseOptimizer` was built on: `{id of a weight: record}`."""
    found = {id(weight): _records.get(id(weight)) for weight in weights}
    return {key: each for key, each in found.items() if each is not None}


def go_on(optimizer, records: dict) -> None:
    """Let a new optimizer go on from where others were before `compile`.

        masks = weights != 0;  start = zeros(masks)
        start, position = those of an equal schedule that has not ended, if the weights still have its zeros

    Args:
        optimizer: A new `SparseOptimizer`, built.
        records: What was known before it was built; without any, nothing is done.
    """
    if not records:
        return
    state, start = optimizer.mask_state, _start_from_zeros(optimizer.mask_state)
    positions = (each.position for each in records.values() if each.position.request == _request(optimizer))
    position = next(filter(Position.is_in_progress, positions), None)
    known = {key: each.index for key, each in records.items() if each.position is position and key in start}
    if position is not None and not _are_written(position, known, start):
        state.begin.assign(backend_ops.to_int(optimizer.iterations) - position.steps_done)
        optimizer.set_total_steps(optimizer.total_steps or backend_ops.to_int(position.total_steps))
        before = ops.convert_to_numpy(position.start)
        start |= {key: before[index] for key, index in known.items()}
    state.start.assign([start[id(weight)] for weight in state.weights])


def _start_from_zeros(state) -> dict:
    """Let the weights that are not zero live, and return `{id: zeros}`. A weight that is all zero lives."""
    start = {}
    for weight, mask in zip(state.weights, state.masks, strict=True):
        nonzero = ops.convert_to_numpy(weight) != 0
        start[id(weight)] = int(np.sum(~nonzero)) if nonzero.any() else 0
        if start[id(weight)]:
            mask.assign(nonzero.astype("float32"))
    return start


def _are_written(position, known, zeros):
    """Return whether weights that must have zeros by now have none."""
    schedule, target = position.request[0], ops.convert_to_numpy(position.target)
    fraction = float(schedule.fraction(position.steps_done, backend_ops.to_int(position.total_steps)))
    expected = fraction * sum(target[index] for index in known.values())
    return expected >= 1 and not any(zeros[key] for key in known)


def _removal(key):
    return lambda _: _records.pop(key, None)


def _request(optimizer):
    return optimizer.schedule, optimizer.pruner, optimizer.sparsity
