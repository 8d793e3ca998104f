"""Putting `SparseOptimizer` into a compiled model, and pruning a model once."""

import keras
import numpy as np
from keras import ops

from tfsparse import pruners
from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
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
    """Wrap the optimizer of a compiled model, with its live state, in a `SparseOptimizer`; the model stays as it is.

    Args:
        model: built and compiled; may have been trained.
        schedule, sparsity, pruner, total_steps: as for `SparseOptimizer`.
        sparsities: `{layer: sparsity}`, or pairs of a layer or a variable and its sparsity, instead of the common one.
        exclude: layers or variables to leave dense.
        skip_first, skip_last: leave the first or the last kernel of the model dense.

    Returns: the new optimizer (inside the `LossScaleOptimizer` if the model has one).

    Raises: ValueError if the model is not built, not compiled, or has nothing to prune.

    >>> tfsparse.sparsify(model, "polynomial", sparsity=0.8, total_steps=10_000)
    """
    check_ready(model)
    with replicas.strategy_scope(model):
        optimizer = SparseOptimizer(
            plain(model.optimizer), schedule, sparsity, pruner, total_steps=total_steps
        )
        for item, wanted in selection.pairs(sparsities):
            optimizer.set_sparsity(item, wanted)
        optimizer.exclude_from_pruning(selection.excluded(model, exclude, skip_first, skip_last))
        optimizer.build(model.trainable_variables)
        previous = sparse_optimizer(model)
        if previous is not None:
            optimizer.continue_from(previous)
        _compile_again(model, inside_loss_scaling(model.optimizer, optimizer, model.trainable_variables))
    return optimizer


def sparse_optimizer(model: keras.Model) -> SparseOptimizer | None:
    """The model's `SparseOptimizer`, also inside a `LossScaleOptimizer`; None if it trains without one."""
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer if isinstance(optimizer, SparseOptimizer) else None


def masks(model: keras.Model) -> list[tuple]:
    """Pairs of a variable and its mask: those of trainable thresholds, and those of the model's `SparseOptimizer`."""
    optimizer, pairs = sparse_optimizer(model), masked_layer.layer_masks(model)
    if optimizer is not None:
        pairs += zip(optimizer.pruned_variables, optimizer.masks, strict=True)
    return pairs


def check_ready(model) -> None:
    """Refuse a model that is not built or not compiled."""
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


def prune(model: keras.Model, sparsity: float, pruner="magnitude", *, sparsities=(), exclude=()) -> None:
    """Prune once, now: zero the lowest weights in place. Nothing keeps them at zero if training goes on.

        weights = weights * pruner.masks(weights, sparsity)

    Args: as for `sparsify`; the pruner must not need gradients.

    Raises: ValueError for a pruner that scores gradients, or if there is nothing to prune.

    >>> tfsparse.prune(model, 0.8); tfsparse.report(model).sparsity
    0.8
    """
    chosen = pruners.get(pruner)
    if chosen.needs_gradients:
        raise ValueError(
            f"{chosen!r} scores gradients, and there are none outside training. Write prune(model, {sparsity}, "
            'pruner="magnitude"), or train with callbacks=[tfsparse.Prune("one_shot", ...)].'
        )
    keeper = SparseOptimizer("sgd", "constant", sparsity, chosen, total_steps=2)
    for item, wanted in selection.pairs(sparsities):
        keeper.set_sparsity(item, wanted)
    keeper.exclude_from_pruning([v for item in exclude for v in selection.kernels(item)])
    keeper.build(model.trainable_variables)
    keeper.prune_now()


def winning_ticket(model: keras.Model, initial_weights, mask) -> SparseOptimizer:
    """Go back to where a training began, with the mask that it ended with: the lottery ticket, ready for `fit`.

        weights = initial_weights * mask, and stay so: the optimizer is wrapped in a `SparseOptimizer`

    Args:
        model: built, and compiled with an optimizer that has not trained yet.
        initial_weights: all of the model's weights before that training, as `model.get_weights()` gave them.
        mask: a model of the same shapes, whose kernels' zeros are pruned; or one array per kernel, 1 lives, 0 pruned.

    Returns: the new optimizer.

    Raises: ValueError for shapes that differ, a kernel without a living weight, an optimizer that has trained.

    Source: Frankle & Carbin, "The Lottery Ticket Hypothesis" (ICLR 2019); with masks found by GSM: Ding et al. (2019).

    >>> initial = model.get_weights()
    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(sparsity=0.9)])
    >>> ticket = keras.models.clone_model(model); ticket.compile("sgd", loss="mse")
    >>> tfsparse.winning_ticket(ticket, initial, mask=model); ticket.fit(x, y, epochs=10)
    """
    check_ready(model)
    if backend_ops.number(model.optimizer.iterations):
        raise ValueError(
            f"The optimizer of {model.name!r} has trained already, and its momentum would move the ticket. Compile the "
            "model anew first: model.compile(optimizer, loss)."
        )
    masks = _kernel_masks(model, mask)
    _check_shapes("initial_weights", initial_weights, model.weights)
    model.set_weights(initial_weights)
    optimizer = sparsify(model, "constant", sparsity=0.0, total_steps=2)
    for variable, value in zip(optimizer.masks, masks, strict=True):
        variable.assign(value)
    optimizer.target.assign([int(np.sum(m == 0)) for m in masks])
    optimizer.apply_masks()
    return optimizer


def _kernel_masks(model, mask):
    """One array of zeros and ones per kernel of the model."""
    if isinstance(mask, keras.Model):
        mask = [v for v in mask.trainable_variables if selection.is_prunable(v)]
    masks = [(ops.convert_to_numpy(m) != 0).astype("float32") for m in mask]
    kernels = [v for v in model.trainable_variables if selection.is_prunable(v)]
    _check_shapes("mask", masks, kernels)
    for kernel, values in zip(kernels, masks, strict=True):
        if not values.any():
            raise ValueError(f"mask leaves no weight of {kernel.path} alive, so nothing would pass through its layer.")
    return masks


def _check_shapes(what, values, variables):
    shapes, expected = [tuple(np.shape(v)) for v in values], [tuple(v.shape) for v in variables]
    if shapes != expected:
        wrong = next((i for i, pair in enumerate(zip(shapes, expected, strict=False)) if len(set(pair)) > 1), None)
        found = f"{len(shapes)} arrays" if wrong is None else f"one of shape {shapes[wrong]}"
        wanted = f"{len(expected)}" if wrong is None else f"{expected[wrong]} of {variables[wrong].path}"
        raise ValueError(f"{what} holds {found}, expected {wanted}: both must come from a model of the same shapes.")


def replace_optimizer(model: keras.Model, optimizer) -> None:
    """Compile a model with another optimizer; all else stays."""
    if model.optimizer is not optimizer:
        with replicas.strategy_scope(model):
            _compile_again(model, optimizer)


def plain(optimizer):
    """The optimizer that does the training, out of whatever wraps it."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def inside_loss_scaling(current, optimizer, variables):
    """Loss scaling stays outside, with its scale as it stands."""
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


def _compile_again(model, optimizer):
    """Compile with another optimizer only: loss and metrics, which may be built already, stay the objects they are."""
    given = dict(model._compile_config.config)
    model.compile(
        optimizer=optimizer,
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
    )
    # what a saved file says about loss and metrics is what the user compiled with
    kept = ("loss", "loss_weights", "metrics", "weighted_metrics")
    model._compile_config.config.update({key: given.get(key) for key in kept})
