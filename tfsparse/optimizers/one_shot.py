"""Pruning without training: cut a model once, or start again from a winning ticket."""

import keras
import numpy as np
from keras import ops

from tfsparse import pruners
from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers.compiled_model import check_keras3, check_ready
from tfsparse.optimizers.fixed_masks import check_masks, train_with
from tfsparse.optimizers.kernel_checks import check_kernels
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import left_dense, selection


def prune(
    model: keras.Model,
    sparsity: float,
    pruner="magnitude",
    *,
    sparsities=(),
    exclude=(),
    min_sparsity: float = 0.0,
    max_sparsity: float = 1.0,
) -> None:
    """Prune a model once, now: zero the lowest weights in place.

        weights = weights * pruner.masks(weights, num_pruned)

    Nothing keeps them at zero if training goes on; `tfsparse.Prune` does. If the model has BatchNormalization, most of
    what the cut costs may be its statistics: `tfsparse.recalibrate(model, data)` measures them again.

    Args:
        model: A built model.
        sparsity: Target in [0, 1): of all kernels together, or with `scope="layer"` of each of them.
        pruner: Which weights are pruned: a pruner that needs no gradients, its name or its config. Default:
            "magnitude".
        sparsities: `{layer: sparsity}`, or pairs of a layer or variable and its sparsity: targets of their own. A
            layer may be given by its name. A pair `(least, largest)` in place of a sparsity bounds a weight that
            competes for the common target.
        exclude: Layers, their names, or variables to leave dense; one of them or several.
        min_sparsity: Least sparsity of each weight that competes for the common target, in [0, 1). Default: 0.0.
        max_sparsity: Largest sparsity of each of these, in (0, 1]. Default: 1.0, which leaves it to the rule that a
            weight keeps at least a tenth of what it would keep if all had the same sparsity.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the pruner scores gradients, or if there is nothing to prune.

    Examples:
        >>> tfsparse.prune(model, 0.8)
        >>> tfsparse.report(model).sparsity
        0.8
    """
    check_keras3(model, f"tfsparse.prune(tfsparse.tfmot.to_keras3(model), {sparsity})")
    chosen = pruners.get(pruner)
    if chosen.needs_gradients:
        raise ValueError(
            f"{chosen!r} scores gradients, and there are none outside training. Write prune(model, {sparsity}, "
            'pruner="magnitude"), or train with callbacks=[tfsparse.Prune("one_shot", ...)].'
        )
    check_kernels(model, sparsities)
    choice = selection.Choice(sparsities, exclude, min_sparsity=min_sparsity, max_sparsity=max_sparsity)
    optimizer = SparseOptimizer("sgd", "constant", sparsity, chosen, total_steps=2)
    optimizer.choose_when_built(lambda: left_dense.resolve(choice, model, sparsity))
    optimizer.build(model.trainable_variables)
    optimizer.prune_now()


def winning_ticket(model: keras.Model, initial_weights, mask) -> SparseOptimizer:
    """Reset a model to the weights before training, with the masks after it: the lottery ticket, ready for `fit`.

        weights = initial_weights * mask        and stay so: the optimizer is wrapped in a `SparseOptimizer`

    Training corrects the statistics of BatchNormalization. Only to evaluate the ticket before it is trained, measure
    them again with `tfsparse.recalibrate(model, data)`.

    Args:
        model: A built model, compiled with an optimizer that has not trained yet.
        initial_weights: All weights of the model before that training, as `model.get_weights()` returned them.
        mask: A model of the same shapes, whose zeros are the pruned weights; or one array per kernel, 1 lives,
            0 is pruned. Kernels of frozen layers count too, and are masked once: nothing trains them.

    Returns:
        The new optimizer.

    Raises:
        ValueError: If shapes differ, a kernel would have no living weight, or the optimizer has trained.

    Source:
        Frankle & Carbin, "The Lottery Ticket Hypothesis" (ICLR 2019). With masks found by GSM: Ding et al. (NeurIPS
        2019).

    Examples:
        >>> initial = model.get_weights()
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(sparsity=0.9)])
        >>> ticket = keras.models.clone_model(model)
        >>> ticket.compile("sgd", loss="mse")
        >>> tfsparse.winning_ticket(ticket, initial, mask=model)
        >>> ticket.fit(x, y, epochs=10)
    """
    check_ready(model)
    if backend_ops.to_int(model.optimizer.iterations):
        raise ValueError(
            f"The optimizer of {model.name!r} has trained already, and its momentum would move the ticket. Compile the "
            "model anew first: model.compile(optimizer, loss)."
        )
    kernels = _kernels(model)
    masks = _kernel_masks(kernels, mask)
    _check_shapes("initial_weights", initial_weights, model.weights)
    model.set_weights(initial_weights)
    for kernel, value in zip(kernels, masks, strict=True):
        kernel.assign(backend_ops.masked(backend_ops.read(kernel), ops.convert_to_tensor(value)))
    trained = {id(v) for v in model.trainable_variables}
    return train_with(model, [(k, m) for k, m in zip(kernels, masks, strict=True) if id(k) in trained])


def _kernels(model):
    return [v for v in keras_internals.trained_weights(model) if selection.is_prunable(v)]


def _kernel_masks(kernels, mask):
    """Return one array of zeros and ones per kernel."""
    given = _kernels(mask) if isinstance(mask, keras.Model) else mask
    masks = [(ops.convert_to_numpy(m) != 0).astype("float32") for m in given]
    _check_shapes("mask", masks, kernels)
    check_masks("mask", zip(kernels, masks, strict=True))
    return masks


def _check_shapes(what, values, variables):
    shapes, expected = [tuple(np.shape(v)) for v in values], [tuple(v.shape) for v in variables]
    if shapes == expected:
        return
    wrong = next((i for i, pair in enumerate(zip(shapes, expected, strict=False)) if len(set(pair)) > 1), None)
    given = f"{len(shapes)} arrays" if wrong is None else f"one of shape {shapes[wrong]}"
    needed = f"{len(expected)}" if wrong is None else f"{expected[wrong]} of {variables[wrong].path}"
    raise ValueError(f"{what} holds {given}, expected {needed}: both must come from a model of the same shapes.")
