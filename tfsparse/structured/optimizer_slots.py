"""The optimizer of a model that has changed shape: its slots are cut as the weights are."""

from collections.abc import Callable

import keras
from keras import ops

from tfsparse.optimizers import compiled_model


def compile_like(small: keras.Model, model: keras.Model, origins: dict, cut: Callable) -> None:
    """Compile a model as another one, with its optimizer's state; nothing if that one is not compiled.

    Args:
        origins: `{id of a new variable: the old one, or None}`.
        cut: `(old variable, array of its shape) -> array of the new shape`.
    """
    if not model.compiled:
        return
    given = model._compile_config.config
    optimizer = compiled_model.innermost_optimizer(model.optimizer)
    new = type(optimizer).from_config(optimizer.get_config())
    small.compile(
        optimizer=new,
        loss=given.get("loss"),
        loss_weights=given.get("loss_weights"),
        metrics=_fresh(given.get("metrics")),
        weighted_metrics=_fresh(given.get("weighted_metrics")),
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
    )
    new.build(small.trainable_variables)
    if optimizer.built:
        _hand_over(optimizer, new, origins, cut)
    compiled_model.replace_optimizer(small, compiled_model.inside_loss_scaling(model.optimizer, new, small.trainable_variables))


def _fresh(metrics):
    """Metrics have a state, which each model needs for itself."""
    return keras.tree.map_structure(
        lambda m: type(m).from_config(m.get_config()) if isinstance(m, keras.Metric) else m, metrics
    )


def _hand_over(old, new, origins, cut):
    sources = [origins[id(v)] for v in new._trainable_variables]
    places = {id(v): i for i, v in enumerate(old._trainable_variables)}
    for name, value in vars(new).items():
        before = vars(old).get(name)
        if isinstance(value, keras.Variable) and value.shape == before.shape:
            value.assign(ops.convert_to_numpy(before))
        elif isinstance(value, list) and len(value) == len(sources) and value is not new._trainable_variables:
            _hand_over_slots(value, before, sources, places, cut)


def _hand_over_slots(slots, before, sources, places, cut):
    """Keras keeps slots in lists parallel to the variables; those of other shapes (factored ones) start anew."""
    for slot, source in zip(slots, sources, strict=True):
        old = before[places[id(source)]] if id(source) in places else None
        if isinstance(slot, keras.Variable) and old is not None and tuple(old.shape) == tuple(source.shape):
            slot.assign(cut(source, ops.convert_to_numpy(old)))
