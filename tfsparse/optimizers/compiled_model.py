"""Puts `SparseOptimizer` into a compiled model."""

import keras
from keras import ops

from tfsparse.backend import keras_internals, replicas
from tfsparse.optimizers import masked_layer
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import selection


def sparsify(
    model: keras.Model,
    schedule="one_cycle",
    sparsity: float = 0.5,
    pruner="magnitude",
    *,
    total_steps: int | None = None,
    sparsities=(),
    exclude=(),
    skip_first: bool = False,
    skip_last: bool = False,
) -> SparseOptimizer:
    """Wrap the optimizer of a compiled model in a `SparseOptimizer`; layers and weights stay as they are.

    The inner optimizer keeps its state. If the model has a `SparseOptimizer` already, the new one starts from its
    masks.

    Args:
        model: A built and compiled model, trained or not.
        schedule: When masks are updated: a schedule, its name or its config. Default: "one_cycle".
        sparsity: Target in [0, 1): of each kernel with `scope="layer"`, of all together with `scope="global"`.
            Default: 0.5.
        pruner: Which weights are pruned: a pruner, its name or its config. Default: "magnitude".
        total_steps: Length of the schedule in optimizer steps, at least 2. Default: None, which must be set before the
            first step.
        sparsities: `{layer: sparsity}`, or pairs of a layer or variable and its sparsity: targets of their own.
        exclude: Layers or variables to leave dense.
        skip_first: Whether to leave the first kernel of the model dense. Default: False.
        skip_last: Whether to leave the last kernel of the model dense. Default: False.

    Returns:
        The new optimizer. With float16 loss scaling it is inside the model's `LossScaleOptimizer`.

    Raises:
        ValueError: If the model is not built, not compiled, or has nothing to prune.

    Examples:
        >>> tfsparse.sparsify(model, "polynomial", sparsity=0.8, total_steps=10_000)
    """
    check_ready(model)
    with replicas.strategy_scope(model):
        optimizer = SparseOptimizer(
            innermost_optimizer(model.optimizer), schedule, sparsity, pruner, total_steps=total_steps
        )
        for item, target in selection.as_pairs(sparsities):
            optimizer.set_sparsity(item, target)
        optimizer.exclude_from_pruning(selection.excluded(model, exclude, skip_first, skip_last))
        optimizer.build(model.trainable_variables)
        previous = sparse_optimizer(model)
        if previous is not None:
            optimizer.continue_from(previous)
        _compile_with(model, inside_loss_scaling(model.optimizer, optimizer, model.trainable_variables))
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


def check_ready(model) -> None:
    """Refuse a model that is not built or not compiled.

    Raises:
        ValueError: If it is not.
    """
    if not getattr(model, "built", False) or not model.trainable_variables:
        raise ValueError(
            f"Model {model.name!r} has no weights yet, so nothing can be chosen for pruning. Start it with "
            "keras.Input(shape), or call model.build(input_shape), before fit."
        )
    if not getattr(model, "compiled", False) or getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"Model {model.name!r} has no optimizer to wrap: call model.compile(optimizer, loss) first, or build "
            "SparseOptimizer(...) yourself in a custom loop."
        )


def replace_optimizer(model: keras.Model, optimizer) -> None:
    """Compile a model with another optimizer; everything else stays."""
    if model.optimizer is not optimizer:
        with replicas.strategy_scope(model):
            _compile_with(model, optimizer)


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
    outer.build(variables)
    if current.built:
        outer.step_counter.assign(ops.convert_to_numpy(current.step_counter))
        outer.dynamic_scale.assign(ops.convert_to_numpy(current.dynamic_scale))
    return outer


def _compile_with(model, optimizer):
    """Compile with another optimizer. Loss and metrics, which may be built already, stay the same objects."""
    given = dict(keras_internals.compile_arguments(model))
    model.compile(
        optimizer=optimizer,
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
    )
    # a saved file holds the loss and the metrics that the user passed
    kept = ("loss", "loss_weights", "metrics", "weighted_metrics")
    keras_internals.compile_arguments(model).update({key: given.get(key) for key in kept})
