"""The optimizer of a model that has changed shape: its slots are reduced like the weights."""

from collections.abc import Callable

import keras
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.backend.layer_copies import copy_or_share
from tfsparse.optimizers import compiled_model


def compile_like(small: keras.Model, model: keras.Model, sources: dict, take_kept: Callable) -> None:
    """Compile a model as another one, with the state of its optimizer; do nothing if that one is not compiled.

    Args:
        small: The model to compile.
        model: The model with the arguments and the optimizer.
        sources: `{id of a new variable: the old one, or None}`.
        take_kept: `(old variable, array of its shape) -> array of the new shape`.
    """
    if not model.compiled:
        return
    arguments = dict(keras_internals.compile_arguments(model))
    arguments |= {name: _without_state(arguments.get(name)) for name in ("metrics", "weighted_metrics")}
    arguments |= {name: getattr(model, name) for name in ("run_eagerly", "steps_per_execution", "jit_compile")}
    optimizer = compiled_model.innermost_optimizer(model.optimizer)
    new = type(optimizer).from_config(optimizer.get_config())
    small.compile(**arguments | {"optimizer": new})
    variables = small.trainable_variables
    new.build(variables)
    if optimizer.built:
        _copy_state(optimizer, new, sources, take_kept)
    compiled_model.replace_optimizer(small, compiled_model.inside_loss_scaling(model.optimizer, new, variables))


def _without_state(metrics):
    """Return copies of the metrics, since each model needs a state of its own."""
    return keras.tree.map_structure(
        lambda m: copy_or_share(m) if isinstance(m, keras.Metric) else m, metrics
    )


def _copy_state(old, new, sources, take_kept):
    variables = keras_internals.trained_variables(new)
    index = {id(v): i for i, v in enumerate(keras_internals.trained_variables(old))}
    for name, value in vars(new).items():
        before = vars(old).get(name)
        if isinstance(value, keras.Variable) and value.shape == before.shape:
            value.assign(ops.convert_to_numpy(before))
        elif isinstance(value, list) and len(value) == len(variables) and value is not variables:
            for slot, variable in zip(value, variables, strict=True):
                source = sources[id(variable)]
                if isinstance(slot, keras.Variable) and id(source) in index:
                    _copy_slot(slot, before[index[id(source)]], source, take_kept)


def _copy_slot(slot, before, source, take_kept):
    """Copy what is kept of a slot; slots of other shapes than the variable's (factored ones) start anew."""
    if before is not None and tuple(before.shape) == tuple(source.shape):
        slot.assign(take_kept(source, ops.convert_to_numpy(before)))
