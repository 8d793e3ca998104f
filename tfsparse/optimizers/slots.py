"""What an optimizer keeps of single weights, and what it would keep of a new one."""

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops


class Slot(NamedTuple):
    """A variable that an optimizer keeps for one weight, with the weight's shape.

    Attributes:
        variable: The optimizer's variable.
        initial: What it holds for a new weight that is zero.
        is_average: Whether it is the moving average that `use_ema` keeps, which may be put in the weight's place.
    """

    variable: object
    initial: float
    is_average: bool


def finder(optimizer, weights: Sequence, variable_class: type = keras.Variable) -> Callable[..., list[Slot]]:
    """Return `weight -> its slots`, also those of optimizers inside the optimizer.

    What slots hold for a new weight is read from a copy of the optimizer that is built on tiny zeros. If its class
    cannot make a copy from its config, they are taken to start at 0.

    Args:
        optimizer: A built optimizer of Keras 3 or tf_keras.
        weights: The weights that will be asked for.
        variable_class: Class of variables on which the optimizer can be built. Default: `keras.Variable`.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # no graph, strategy or scope is in force in a new thread
        initial = pool.submit(_initial_values, optimizer, weights, variable_class).result()

    def slots(weight):
        return [
            Slot(slot, initial.get((id(owner), path), 0.0), keras_internals.is_average(path))
            for owner, path, slot in _find(optimizer, weight)
        ]

    return slots


def _initial_values(optimizer, weights, variable_class):
    """Return `{(id of an optimizer, path of a slot): value}` for the optimizer and those inside it."""
    values = {}
    for owner in {id(owner): owner for weight in weights for owner, *_ in _find(optimizer, weight)}.values():
        zeros = [_zeros_for(weight, variable_class) for weight in weights if keras_internals.place(owner, weight)]
        copy = _new_copy(owner, zeros)
        found = [] if copy is None else [slot for weight in zeros for slot in _find(copy, weight)]
        values |= {(id(owner), path): float(backend_ops.to_numpy(slot).flat[0]) for _, path, slot in found}
    return values


def _zeros_for(weight, variable_class):
    value, name = np.zeros((2,) * len(weight.shape), "float32"), weight.name.split(":")[0]
    return variable_class(value, dtype=weight.dtype, name=name)


def _new_copy(optimizer, variables):
    """Return a copy of an optimizer that is built on other variables; None if its class does not support it."""
    try:
        config = optimizer.get_config()
        if "learning_rate" in config:
            config["learning_rate"] = 1.0  # a user's schedule may not be registered
        copy = type(optimizer).from_config(config)
        keras_internals.build_optimizer(copy, variables)
    except Exception:  # of a user's class, which need not support this
        return None
    return copy


def _find(optimizer, weight, outer=()) -> Iterator[tuple]:
    """Yield `(optimizer, path, slot)` for one weight, also for optimizers inside the optimizer."""
    place = keras_internals.place(optimizer, weight)
    kept = [] if place is None else _kept_at(place, keras_internals.attributes(optimizer))
    for path, value in kept:
        if keras_internals.is_optimizer(value):
            if not any(value is other for other in (optimizer, *outer)):
                yield from _find(value, weight, (optimizer, *outer))
        elif hasattr(value, "assign") and value.shape == weight.shape and value is not weight:
            yield optimizer, path, value


def _kept_at(place, item, path=()):
    """Yield `(path, value)` of what nested lists and dicts hold for one weight, and of the optimizers in them."""
    own = _part(place, item)
    if keras_internals.is_optimizer(item):
        yield path, item
    elif own:
        yield from _leaves(own[0], path)
    else:
        for name, value in _children(item):
            yield from _kept_at(place, value, (*path, name))


def _part(place, item) -> list:
    """Return what a dict by variable, or a list parallel to the variables, holds for one; nothing of anything else."""
    if isinstance(item, dict):
        return [item[key] for key in place.keys if key in item]
    deeper = [v for v in _children(item) if _is_list(v[1], place.num_variables) or keras_internals.is_optimizer(v[1])]
    return [item[place.position]] if _is_list(item, place.num_variables) and not deeper else []


def _is_list(item, length):
    return isinstance(item, (list, tuple)) and len(item) == length


def _children(item):
    return item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, (list, tuple)) else ()


def _leaves(item, path):
    """Yield `(path, value)` of everything inside nested lists and dicts."""
    children = list(_children(item))
    if not children:
        yield path, item
    for name, value in children:
        yield from _leaves(value, (*path, name))
