"""Puts `SparseOptimizer` into a compiled model."""

import keras
from keras import ops

from tfsparse import pruners
from tfsparse.backend import keras_internals, replicas
from tfsparse.backend.weight_names import weight_names
from tfsparse.optimizers import masked_layer, recompiled
from tfsparse.optimizers.kernel_checks import check_kernels
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import left_dense, selection
from tfsparse.pruners.calibrated import in_training


def sparsify(
    model: keras.Model,
    schedule="one_cycle",
    sparsity: float = 0.5,
    pruner="magnitude",
    *,
    total_steps: int | None = None,
    addons=(),
    sparsities=(),
    exclude=(),
    skip_first: bool = False,
    skip_last: bool = False,
    min_sparsity: float = 0.0,
    max_sparsity: float = 1.0,
) -> SparseOptimizer:
    """Wrap the optimizer of a compiled model in a `SparseOptimizer`; layers and weights stay as they are.

    The inner optimizer keeps its state. If the model has a `SparseOptimizer` already, the new one starts from its
    masks. If it had one before it was compiled anew, the new one starts from the zeros of the weights, and goes on with
    an equal schedule that has not ended.

    Args:
        model: A compiled model, trained or not. If it has no weights yet, they are chosen in its first training step.
        schedule: When masks are updated: a schedule, its name or its config. Default: "one_cycle".
        sparsity: Target in [0, 1): of all kernels together, or with `scope="layer"` of each of them.
            Default: 0.5.
        pruner: Which weights are pruned: a pruner, its name or its config. Default: "magnitude".
        total_steps: Length of the schedule in optimizer steps, at least 2. Default: None, which must be set before the
            first step.
        addons: What changes the steps of the inner optimizer for pruned weights: a list of add-ons, their names or
            configs, see `tfsparse.optimizers.addons`. Default: (), none.
        sparsities: `{layer: sparsity}`, or pairs of a layer or variable and its sparsity: targets of their own. A
            layer may be given by its name. A pair `(least, largest)` in place of a sparsity bounds a weight that
            competes for the common target.
        exclude: Layers, their names, or variables to leave dense; one of them or several.
        skip_first: Whether to leave the first kernel of the model dense. Default: False.
        skip_last: Whether to leave the last kernel of the model dense. Default: False.
        min_sparsity: Least sparsity of each weight that competes for the common target, in [0, 1). Default: 0.0.
        max_sparsity: Largest sparsity of each of these, in (0, 1]. Default: 1.0, which leaves it to the rule that a
            weight keeps at least a tenth of what it would keep if all had the same sparsity.

    Returns:
        The new optimizer. With float16 loss scaling it is inside the model's `LossScaleOptimizer`.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model is not compiled, or has nothing to prune.

    Examples:
        >>> tfsparse.sparsify(model, "polynomial", sparsity=0.8, total_steps=10_000)
    """
    choice = selection.Choice(sparsities, exclude, skip_first, skip_last, min_sparsity, max_sparsity)
    return wrap_optimizer(model, schedule, sparsity, pruner, choice, total_steps, addons)


def wrap_optimizer(
    model, schedule, sparsity: float, pruner, choice: selection.Choice, total_steps: int | None, addons=()
):
    """Do what `sparsify` does, for a `Choice` of weights."""
    pruner = pruners.get(pruner)
    if pruner.needs_calibration:
        raise ValueError(in_training(pruner))
    check = check_ready if pruner.straight_through else check_compiled  # dense copies start from the weights
    check(model)
    previous, records = sparse_optimizer(model), recompiled.last_records(model.trainable_variables)
    with replicas.strategy_scope(model):
        inner = innermost_optimizer(model.optimizer)
        optimizer = SparseOptimizer(inner, schedule, sparsity, pruner, total_steps=total_steps, addons=addons)
        optimizer.choose_when_built(lambda: left_dense.resolve(choice, model, sparsity))
        if model.built:
            check_kernels(model, choice.sparsities)
            optimizer.build(check_trainable(model))
        if previous is not None and previous.built:
            optimizer.continue_from(previous)
        elif previous is None and model.built:
            recompiled.go_on(optimizer, records)
        scaled = inside_loss_scaling(model.optimizer, optimizer, model.trainable_variables)
        keras_internals.set_optimizer(model, scaled)
    return optimizer


def sparse_optimizer(model: keras.Model) -> SparseOptimizer | None:
    """Return the model's `SparseOptimizer`, also from inside a `LossScaleOptimizer`; None if there is none."""
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer if isinstance(optimizer, SparseOptimizer) else None


def masks(model: keras.Model) -> list[tuple]:
    """Return pairs of a variable and its mask: of masked layers, and of the model's `SparseOptimizer`."""
    optimizer, pairs = sparse_optimizer(model), masked_layer.layer_masks(model)
    if optimizer is not None:
        pairs += zip(optimizer.pruned_variables, optimizer.masks, strict=True)
    return pairs


def broken_masks(model: keras.Model) -> dict[str, int]:
    """Return `{name of a weight: entries that are not zero although their mask prunes them}`, counted now.

    It is empty unless something else than training has written the weights, for example a callback that restores those
    of an earlier epoch. The masks of a `SparseOptimizer` are saved with the model, so this holds for a loaded one too.
    """
    optimizer = sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return {}
    names = weight_names(model)
    pairs = zip(optimizer.pruned_variables, optimizer.mask_state.num_broken(), strict=True)
    return {names.get(id(v), v.path): count for v, count in pairs if count}


def reached_target(model: keras.Model) -> bool | None:
    """Return whether the schedule of a model's `SparseOptimizer` has reached its target; None without one."""
    optimizer = sparse_optimizer(model)
    return None if optimizer is None else optimizer.built and optimizer.reached_target()


def unfinished(model: keras.Model) -> str | None:
    """Return one sentence if the schedule of a model's `SparseOptimizer` has not reached its target, else None."""
    optimizer = sparse_optimizer(model)
    if optimizer is None or not optimizer.built or optimizer.reached_target():
        return None
    length = optimizer.total_steps or "an unknown number"
    return (
        f"{model.name!r} is from before the target was reached: its schedule is at step {optimizer.steps_done} of "
        f"{length}, {optimizer.current_sparsity():.4f} of its weights are zero, the target is {optimizer.sparsity:g}."
    )


def check_compiled(model) -> None:
    """Refuse what is no compiled Keras 3 model.

    Raises:
        TypeError: If it is no Keras 3 model.
        ValueError: If it is not compiled.
    """
    check_keras3(model, 'model.fit(..., callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])')
    if not model.compiled or getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"Model {model.name!r} has no optimizer to wrap: call model.compile(optimizer, loss) first, or build "
            "SparseOptimizer(...) yourself in a custom loop."
        )


def check_keras3(model, instead: str) -> None:
    """Refuse what is no Keras 3 model.

    Args:
        model: What the user gave.
        instead: What to write for a model of tf_keras.

    Raises:
        TypeError: If it is something else.
    """
    if isinstance(model, keras.Model):
        return
    if any(cls.__module__.startswith("tf_keras.") for cls in type(model).__mro__):
        raise TypeError(f"{model.name!r} is a model of tf_keras (Keras 2), and this is for Keras 3: write {instead}.")
    raise TypeError(f"Expected a Keras 3 model, got {model!r}.")


def check_ready(model) -> None:
    """Refuse a model that is not compiled, or has no weights.

    Raises:
        TypeError: If it is no Keras 3 model.
        ValueError: If it is not ready.
    """
    check_compiled(model)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} has no weights yet, so nothing can be chosen for pruning. Call it on a batch of "
            "inputs before fit: model(x[:1])."
        )
    check_trainable(model)


def check_trainable(model) -> list:
    """Return the trainable variables of a built model.

    Raises:
        ValueError: If there are none.
    """
    if not model.trainable_variables:
        raise ValueError(
            f"Model {model.name!r} has no trainable weights, so nothing can be pruned in training. If its layers are "
            "frozen, set model.trainable = True and compile again."
        )
    return model.trainable_variables


def replace_optimizer(model: keras.Model, optimizer) -> None:
    """Give a compiled model another optimizer; everything else stays."""
    if model.optimizer is not optimizer:
        keras_internals.set_optimizer(model, optimizer)


def innermost_optimizer(optimizer):
    """Return the optimizer that makes the steps, from inside all wrappers."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def inside_loss_scaling(current, optimizer, variables):
    """Return `optimizer`, inside a copy of `current` if that scales losses; the copy has the present scale."""
    if not isinstance(current, keras.optimizers.LossScaleOptimizer):
        return optimizer
    outer = keras.optimizers.LossScaleOptimizer(
        optimizer, current.initial_scale, current.dynamic_growth_steps, name=current.name
    )
    if optimizer.built:
        outer.build(variables)
    if current.built and outer.built:
        outer.step_counter.assign(ops.convert_to_numpy(current.step_counter))
        outer.dynamic_scale.assign(ops.convert_to_numpy(current.dynamic_scale))
    return outer
