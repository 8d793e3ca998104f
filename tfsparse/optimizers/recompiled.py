"""What `compile` forgets: it gives a model a new optimizer, without the masks and the position in the schedule."""

import weakref
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.variables import zero_fraction
from tfsparse.pruners import selection


class Position(NamedTuple):
    """Where a `SparseOptimizer` is in its schedule.

    Masks and slots are not here, only scalars and counts, so that the memory of a replaced optimizer is free. The zeros
    of the weights show the masks.

    Attributes:
        request: Schedule, pruner and sparsity.
        variables: Its steps, the step before the first one of the schedule, and the schedule's length; empty before it
            is built.
        start: `{id of a weight: zeros at the first step}`.
        has_zeros: Whether its masks had zeros at the end of an epoch.
    """

    request: tuple
    variables: tuple
    start: dict[int, int]
    has_zeros: bool


_positions = weakref.WeakKeyDictionary()  # the last Position of each model


def record(model: keras.Model, optimizer, has_zeros: bool = False) -> None:
    """Record where the `SparseOptimizer` of a model is, now and at all later steps.

    Args:
        model: The model.
        optimizer: Its `SparseOptimizer`.
        has_zeros: Whether the masks have zeros.
    """
    variables, start = (), {}
    if optimizer.built:
        state = optimizer.mask_state
        variables = optimizer.iterations, state.begin, state.total_steps
        start = dict(zip(map(id, state.weights), state.of_trained(_integers(state.start)), strict=True))
    _positions[model] = Position(_request(optimizer), variables, start, has_zeros)


def go_on(model: keras.Model, optimizer) -> None:
    """Let the new optimizer of a model that was pruned before `compile` go on from there.

        masks = weights != 0;  start = zeros(masks)
        start, position = those of the schedule before, if it is an equal one that has not ended

    A model whose weights were written since, so that their zeros are gone, begins its schedule again.

    Args:
        model: A built model.
        optimizer: Its new `SparseOptimizer`, built.
    """
    before, state = _positions.get(model), optimizer.mask_state
    if before is None:
        return
    start = _start_from_zeros(state)
    if before.variables and before.request == _request(optimizer) and (_has_zeros(model) or not before.has_zeros):
        iterations, begin, total = map(backend_ops.to_int, before.variables)
        if 0 < iterations - begin < total:
            state.begin.assign(backend_ops.to_int(optimizer.iterations) - (iterations - begin))
            optimizer.set_total_steps(optimizer.total_steps or total)
            start |= {key: count for key, count in before.start.items() if key in start}
    state.start.assign([start[id(v)] for v in state.weights])


def _start_from_zeros(state) -> dict:
    """Let the weights that are not zero live, and return `{id: zeros}`; a weight that is all zero lives."""
    start = {}
    for weight, mask in zip(state.weights, state.masks, strict=True):
        nonzero = ops.convert_to_numpy(weight) != 0
        start[id(weight)] = int(np.sum(~nonzero)) if nonzero.any() else 0
        if start[id(weight)]:
            mask.assign(nonzero.astype("float32"))
    return start


def _has_zeros(model):
    return zero_fraction([v for v in keras_internals.trained_weights(model) if selection.is_prunable(v)]) > 0


def _request(optimizer):
    return optimizer.schedule, optimizer.pruner, optimizer.sparsity


def _integers(variable):
    return ops.convert_to_numpy(variable).tolist()
