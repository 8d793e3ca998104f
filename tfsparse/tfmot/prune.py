"""Wrapping layers and whole models."""

import collections
import warnings

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude as StockWrapper
from tensorflow_model_optimization.sparsity import keras as sparsity

from tfsparse.backend import keras_internals
from tfsparse.tfmot import kernels, left_dense, schedules
from tfsparse.tfmot.wrapped_weights import WrappedWeights
from tfsparse.tfmot.wrapper import PruneLowMagnitude, rank_together

_NOT_IN_TFMOT = ("scope", "min_sparsity", "max_sparsity")  # options of its wrapper


def prune_low_magnitude(
    to_prune,
    pruning_schedule: sparsity.PruningSchedule | None = None,
    block_size=(1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: sparsity.PruningPolicy | None = None,
    sparsity_m_by_n: tuple[int, int] | None = None,
    scope: str | None = None,
    min_sparsity: float = 0.0,
    max_sparsity: float = 1.0,
    **kwargs,
):
    """Wrap layers for pruning: TFMOT's function of this name, for any layer and with exact, fast masks.

    Layers without weights to prune stay as they are, and models inside a model are wrapped inside. TFMOT's own wrappers
    are replaced; masks and steps are kept. Variables are shared with the given model, as TFMOT does.

    Args:
        to_prune: A layer, a list of layers, or a Sequential or Functional model.
        pruning_schedule: When masks are updated: a schedule of `tfsparse.tfmot` or of TFMOT. Default: None, a constant
            0.5, which the callback `tfsparse.tfmot.Prune` replaces.
        block_size: (inputs, outputs) of the blocks that are pruned together, for kernels of any rank. Default: (1, 1).
        block_pooling_type: "AVG" or "MAX": what of a block's magnitudes ranks it. Default: "AVG".
        pruning_policy: A policy of TFMOT. Layers that it does not allow stay dense. Default: None, all are allowed.
        sparsity_m_by_n: (m, n): m zeros in every n consecutive inputs. Default: None.
        scope: "global": one threshold for all of the model; "layer": every layer reaches the sparsity. Default: None,
            which is "global" for a model, and "layer" for layers, for wrappers of TFMOT that are replaced, and with a
            schedule of TFMOT.
        min_sparsity: With scope "global" the least sparsity of each weight, in [0, 1). Default: 0.0.
        max_sparsity: With scope "global" the largest sparsity of each weight, in (0, 1]. Default: 1.0, which leaves it
            to the rule that a weight keeps at least a tenth of what it would keep if all had the same sparsity. For
            other bounds of one layer wrap that layer first, with scope="global", and then the model.
        **kwargs: For the wrapper of a single layer, for example `input_shape`.

    Returns:
        A wrapped layer, list or model. A model must be compiled again.

    Raises:
        ValueError: If `to_prune` is something else, a subclassed model, or a model with nothing to prune.

    Examples:
        >>> model = tfsparse.tfmot.prune_low_magnitude(model, tfsparse.tfmot.OneCycle(0.9, end_step=10_000))
    """
    options = {
        "pruning_schedule": pruning_schedule,
        "block_size": block_size,
        "block_pooling_type": block_pooling_type,
        "sparsity_m_by_n": sparsity_m_by_n,
        "scope": scope or "layer",
        "min_sparsity": min_sparsity,
        "max_sparsity": max_sparsity,
    }
    if isinstance(to_prune, (list, tuple)):
        return [_wrapped(layer, pruning_policy, options) for layer in to_prune]
    if isinstance(to_prune, tf_keras.Model):
        is_ours = pruning_schedule is None or isinstance(pruning_schedule, schedules.StepSchedule)
        return _wrapped_model(to_prune, pruning_policy, options, scope or ("global" if is_ours else "layer"))
    if isinstance(to_prune, tf_keras.layers.Layer):
        return PruneLowMagnitude(to_prune, **options, **kwargs)
    raise ValueError(
        f"prune_low_magnitude got {to_prune!r}: expected a tf_keras layer, a list of layers, or a Sequential or "
        "Functional tf_keras model. Keras 3 models need no wrappers: model.fit(..., callbacks=[tfsparse.Prune(...)])."
    )


def strip_pruning(model: tf_keras.Model) -> tf_keras.Model:
    """Return the model without wrappers, its weights multiplied by their masks.

    The variables are shared with the wrapped model. If training goes on, pruned weights stay zero. The layers of a
    subclassed model cannot be copied, so it is stripped in place: its attributes hold the plain layers afterwards. A
    warning says if the schedule has not reached its sparsity, also because earlier weights were restored.

    Args:
        model: A wrapped model.

    Returns:
        The plain model.

    Raises:
        ValueError: If it is no model of tf_keras.

    Examples:
        >>> tfsparse.tfmot.strip_pruning(model).save("pruned.keras")
    """
    rank_globally(model)
    for wrapper in kernels.wrappers(model):
        wrapper.pruning_obj.weight_mask_op()
    warn_of_unfinished(model)
    return _stripped(model)


def _stripped(layer):
    """Return a layer or model without wrappers: a graph of layers is cloned, all else is stripped in place."""
    if isinstance(layer, StockWrapper):
        return layer.layer
    if kernels.is_graph(layer):
        return tf_keras.models.clone_model(layer, clone_function=_stripped)
    for owner in keras_internals.all_layers(layer):
        for name, value in list(vars(owner).items()):
            plain = value if name.startswith("_self_") else _unwrapped(value)  # TensorFlow's own lists
            if plain is not value and not isinstance(owner, StockWrapper):
                setattr(owner, name, plain)  # a new list: TensorFlow saves none in which an item was replaced
    if isinstance(layer, tf_keras.Model):
        layer.train_function = layer.test_function = layer.predict_function = None  # they know the wrappers
    return layer


def _unwrapped(value):
    """Return a wrapper's layer, a model without wrappers, and those of a list, tuple or dict; all else as it is."""
    if isinstance(value, StockWrapper) or (kernels.is_graph(value) and kernels.wrappers(value)):
        return _stripped(value)
    if not isinstance(value, (list, tuple, dict)):
        return value
    items = value.values() if isinstance(value, dict) else value
    plain = [*map(_unwrapped, items)]
    if all(new is old for new, old in zip(plain, items, strict=True)):
        return value
    return dict(zip(value, plain, strict=True)) if isinstance(value, dict) else type(value)(plain)


def scope():
    """Return a context in which files of wrapped models, ours or TFMOT's, load with our wrappers.

    Returns:
        A context manager.

    Examples:
        >>> with tfsparse.tfmot.scope():
        ...     model = tf_keras.models.load_model("wrapped.keras")
    """
    return tf_keras.saving.custom_object_scope({"PruneLowMagnitude": PruneLowMagnitude})


def rank_globally(model) -> None:
    """Let the wrappers with scope "global" compete that were made together; those of a loaded file all do."""
    groups = collections.defaultdict(list)
    for wrapper in kernels.wrappers(model):
        if isinstance(wrapper, PruneLowMagnitude) and wrapper.pruner.is_global:
            groups[wrapper.pruning_obj].append(wrapper)
    for group, wrappers in groups.items():
        if group is None or group.wrappers != wrappers:
            rank_together(wrappers)


def wrapped_weights(model) -> list[WrappedWeights]:
    """Return the groups of weights that are ranked together, in the model's order, each once."""
    groups = {id(w.pruning_obj): w.pruning_obj for w in kernels.wrappers(model) if isinstance(w, PruneLowMagnitude)}
    return [group for group in groups.values() if group.active]


def reached_target(model) -> bool | None:
    """Return whether the schedules of a wrapped model have reached their sparsity; None if there are none that say."""
    reached = [group.reached_target() for group in wrapped_weights(model)]
    return None if None in reached or not reached else all(reached)


def warn_of_unfinished(model) -> None:
    """Warn if a schedule has begun and has not reached its sparsity."""
    short = [group for group in wrapped_weights(model) if group.num_steps() > 0 and group.is_short()]
    more = " (and more layers)" * (len(short) > 1)
    for group in short[:1]:
        warnings.warn(
            f"{group.name} is at step {group.num_steps()} of {schedules.describe(group.schedule)}, from before the "
            f"target was reached: {group.sparsity():.4f} of its weights are zero{more}. Train to the end, or use "
            "the weights of the last epoch if those of an earlier one were restored.",
            stacklevel=3,
        )


def set_schedule(model, group: WrappedWeights, schedule: sparsity.PruningSchedule) -> None:
    """Give a group another schedule, also in the model's config and in its compiled step."""
    group.schedule = schedule
    for wrapper in group.wrappers:
        wrapper.pruning_schedule = schedule
    model.make_train_function(force=True)  # a compiled step knows the former schedule


def prepare(model) -> None:
    """Let the wrappers of a model know each other, before training.

    Raises:
        ValueError: If the model has no wrappers, TFMOT's own, wrappers without weights, or nothing to prune in them.
    """
    wrappers = kernels.wrappers(model)
    if not wrappers:
        raise ValueError(
            f"No layer of {model.name!r} is wrapped for pruning: write model = "
            "tfsparse.tfmot.prune_low_magnitude(model) and compile it before fit."
        )
    stock = [w.name for w in wrappers if not isinstance(w, PruneLowMagnitude)]
    if stock:
        raise ValueError(
            f"{stock[0]} was wrapped by TFMOT's own prune_low_magnitude, which leaves weights dense between steps. "
            "Write model = tfsparse.tfmot.prune_low_magnitude(model): it replaces the wrappers and keeps masks and "
            "steps."
        )
    unbuilt = [w.name for w in wrappers if not w.built]
    if unbuilt:
        raise ValueError(
            f"{unbuilt[0]} has no weights yet, because {model.name!r} was never called: write model(x[:1]) before fit."
        )
    rank_globally(model)
    if not wrapped_weights(model):
        frozen = [w.name for w in wrappers if w.pruning_vars]
        raise ValueError(
            f"Nothing is pruned: {frozen[0]} is frozen, and so are all other wrapped layers with kernels. Unfreeze one."
            if frozen
            else f"Nothing is pruned: {wrappers[0].name} has no kernel of rank >= 2. Give your own layer a method "
            "get_prunable_weights that returns its weights, or wrap other layers."
        )


def global_weights(model) -> WrappedWeights:
    """Return the weights of a model whose wrappers rank all of them together.

    Raises:
        ValueError: If they do not, or if a layer has bounds of its sparsity.
    """
    groups = wrapped_weights(model)
    if len(groups) != 1:
        raise ValueError(
            f"{groups[0].name} is not wrapped so that its weights compete with those of the other layers. Write model "
            '= tfsparse.tfmot.prune_low_magnitude(model, scope="global") of the plain model.'
        )
    bounded = [wrapper.name for wrapper in groups[0].active if wrapper.bounds]
    if bounded:
        raise ValueError(
            f"{bounded[0]} has a min_sparsity or max_sparsity, which only tfsparse.tfmot.Prune keeps: wrap it without."
        )
    return groups[0]


def _wrapped_model(model, policy, options, scope):
    replaced = []

    def clone(layer):
        if isinstance(layer, tf_keras.Model):
            _check_cloneable(layer)
            return tf_keras.models.clone_model(layer, clone_function=clone)
        if isinstance(layer, StockWrapper):
            new = _wrapped(layer, policy, options)
            replaced.extend([(layer, new)] if new is not layer else [])
            return new
        return _wrapped(layer, policy, {**options, "scope": scope})

    if policy is not None:
        policy.ensure_model_supports_pruning(model)
    result = clone(model)
    if not kernels.wrappers(result):
        cause = f"{type(policy).__name__} allows no layer of" if policy else "there is no layer with a kernel in"
        raise ValueError(f"Nothing to prune: {cause} model {model.name!r}. Wrap another model, or pass another policy.")
    rank_globally(result)
    for old, new in replaced:
        _copy_masks(old, new)
    left_dense.warn_of_dense_weights(result, policy)
    return result


def _wrapped(layer, policy, options):
    if isinstance(layer, PruneLowMagnitude):
        return layer
    if isinstance(layer, StockWrapper):
        own = {k: getattr(layer, k) for k in options if k not in _NOT_IN_TFMOT}
        own["pruning_schedule"] = options["pruning_schedule"] or own["pruning_schedule"]
        return PruneLowMagnitude(layer.layer, **{**options, **own})
    allowed = policy is None or policy.allow_pruning(layer)
    return PruneLowMagnitude(layer, **options) if allowed and kernels.may_prune(layer) else layer


def _copy_masks(old, new):
    """Copy masks and steps of TFMOT's own wrapper."""
    if old.built and new.built:
        new.pruning_step.assign(tf.maximum(old.pruning_step, 0))
        for (_, mask, threshold), (_, own_mask, own_threshold) in zip(old.pruning_vars, new.pruning_vars, strict=True):
            own_mask.assign(mask)
            own_threshold.assign(threshold)
        new.pruning_obj.weight_mask_op()


def _check_cloneable(model):
    if not kernels.is_graph(model):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose layers cannot be exchanged. Wrap its "
            "layers where it makes them, self.dense = tfsparse.tfmot.prune_low_magnitude(Dense(10), schedule), or use "
            "Keras 3, where tfsparse.Prune needs no wrappers."
        )
