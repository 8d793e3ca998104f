"""Pruning without training: cut a model once, or start again from a winning ticket."""

import functools

import keras
import numpy as np
from keras import ops

from tfsparse import pruners
from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers import recovery
from tfsparse.optimizers.calibration import Calibration
from tfsparse.optimizers.compiled_model import check_keras3, check_ready
from tfsparse.optimizers.fixed_masks import check_masks, train_with
from tfsparse.optimizers.kernel_checks import check_kernels
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import left_dense, selection
from tfsparse.schedules import Constant


def prune(
    model: keras.Model,
    sparsity: float,
    pruner="magnitude",
    *,
    data=None,
    recover: bool = False,
    sparsities=(),
    exclude=(),
    min_sparsity: float = 0.0,
    max_sparsity: float = 1.0,
) -> None:
    """Prune a model once, now: zero the lowest weights in place.

        weights = weights * pruner.masks(weights, num_pruned)

    Nothing keeps them at zero if training goes on; `tfsparse.keep_zeros` does, and `tfsparse.Prune` prunes further. To
    prune before training with SNIP, GraSP or SynFlow, give `fit` a `tfsparse.Prune("constant", 0.95, "snip",
    data=data)`. If the model has BatchNormalization, most of what the cut costs may be its statistics:
    `tfsparse.recalibrate(model, data)` measures them again.

    Args:
        model: A built model.
        sparsity: Target in [0, 1): of all kernels together, or with `scope="layer"` of each of them.
        pruner: Which weights are pruned: a pruner, its name or its config. A pruner that scores gradients gets those of
            the loss on `data`. Default: "magnitude".
        data: One batch on which the pruner scores the weights: `x`, `(x, y)` or `(x, y, sample_weight)`, arrays or
            nests of arrays. Default: None, for pruners that need none.
        recover: Whether the living weights and the biases of the pruned layers, Dense, Conv2D and EinsumDense, are
            fitted to the outputs that each layer had before, on `data`, in closed form and without labels. Default:
            False.
        sparsities: `{layer: sparsity}`, or pairs of a layer or variable and its sparsity: targets of their own. A
            layer may be given by its name. A pair `(least, largest)` in place of a sparsity bounds a weight that
            competes for the common target.
        exclude: Layers, their names, or variables to leave dense; one of them or several.
        min_sparsity: Least sparsity of each weight that competes for the common target, in [0, 1). Default: 0.0.
        max_sparsity: Largest sparsity of each of these, in (0, 1]. Default: 1.0, which leaves it to the rule that a
            weight keeps at least a tenth of what it would keep if all had the same sparsity.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If there is nothing to prune, or if `data` does not fit: it is missing, has no labels for a loss,
            another shape than the model's inputs or fewer samples of a class than the pruner needs, or the pruner uses
            none.

    Examples:
        >>> tfsparse.prune(model, 0.6, "wanda", data=x[:512], recover=True)   # after training, without labels

        >>> tfsparse.prune(model, 0.8)
        >>> tfsparse.report(model).sparsity
        0.8
    """
    check_keras3(model, f"tfsparse.prune(tfsparse.tfmot.to_keras3(model), {sparsity})")
    chosen = pruners.get(pruner)
    _check_data(chosen, data, recover, sparsity)
    check_kernels(model, sparsities)
    choice = selection.Choice(sparsities, exclude, min_sparsity=min_sparsity, max_sparsity=max_sparsity)
    optimizer = SparseOptimizer("sgd", "constant", sparsity, chosen, total_steps=2)
    optimizer.choose_when_built(lambda: left_dense.resolve(choice, model, sparsity))
    optimizer.build(model.trainable_variables)
    calibration = Calibration(model, optimizer.pruned_variables, data)
    dense = [np.array(ops.convert_to_numpy(v)) for v in optimizer.pruned_variables] if recover else []
    if chosen.needs_calibration or chosen.needs_gradients:
        prune_in_rounds(optimizer, calibration)
    else:
        optimizer.prune_now()
    if recover:
        recovery.recover(calibration, dense)


def _check_data(pruner, data, recover, sparsity):
    if recover and data is None:
        raise ValueError(
            f"recover=True fits weights to data, and data is None: write prune(model, {sparsity}, data=x, "
            "recover=True)."
        )
    if pruner.needs_gradients and data is None:
        raise ValueError(
            f"{pruner!r} scores gradients, and there are none outside training. Write prune(model, {sparsity}, pruner, "
            'data=(x, y)) or pruner="magnitude", or train with callbacks=[tfsparse.Prune("one_shot", ...)].'
        )
    if data is not None and not (recover or pruner.needs_gradients or pruner.needs_calibration):
        raise ValueError(
            f"{pruner!r} scores the weights alone, and data was given: leave it out, or write for example "
            f'prune(model, {sparsity}, "snip", data=data) or recover=True.'
        )


def prune_in_rounds(optimizer: SparseOptimizer, calibration: Calibration) -> None:
    """Prune a model to its target in rounds, and score it in each of them with the zeros of the rounds before.

    Args:
        optimizer: Built on the model's weights, with a pruner that needs calibration or gradients.
        calibration: The model and the data.

    Raises:
        ValueError: If the data does not fit, or weights or scores are not finite.
    """
    pruner, state = optimizer.pruner, optimizer.mask_state
    if pruner.needs_calibration:
        sensitivities = backend_ops.compiled(functools.partial(pruner.sensitivities, calibration))
    else:
        sensitivities = backend_ops.compiled(functools.partial(calibration.gradients, calibration.loss))
    for fraction in _fractions(optimizer.sparsity, getattr(pruner, "rounds", 1)):
        found = sensitivities([backend_ops.read(v) for v in state.weights])
        _check_finite(pruner, state.weights, found)
        if pruner.accumulates:
            state.accumulate(found)
        state.update(list(found), state.num_pruned(ops.convert_to_tensor(fraction, "float32")))
        state.apply()
    optimizer.raise_nonfinite()


def check_before_training(schedule, sparsity: float, pruner, data) -> None:
    """Refuse arguments of `Prune` that do not fit a pruner which needs calibration, or one which needs none.

    Raises:
        ValueError: If the schedule is not `Constant`, or if the pruner uses no data and there are some.
    """
    if pruner.needs_calibration and not isinstance(schedule, Constant):
        raise ValueError(
            f"{pruner!r} prunes once, before the first step, and {schedule!r} updates masks in training: write "
            f'Prune("constant", {sparsity:g}, pruner, data=(x, y)).'
        )
    if data is not None and not pruner.needs_calibration:
        raise ValueError(
            f"{pruner!r} scores weights in training, and data was given, which only pruners that score them before the "
            f'first step use: leave data out, or write for example Prune("constant", {sparsity:g}, "snip", data=data).'
        )


def prune_before_training(model: keras.Model, optimizer: SparseOptimizer, data) -> None:
    """Set the masks of a pruner that needs calibration and keep them; in a training that resumes only keep them.

    Args:
        model: The model, built.
        optimizer: Its `SparseOptimizer`.
        data: One batch, as in `prune`.

    Raises:
        ValueError: If `data` is not what the pruner needs.
    """
    if not (optimizer.steps_done or optimizer.reached_target()):
        with replicas.strategy_scope(optimizer):
            prune_in_rounds(optimizer, Calibration(model, optimizer.pruned_variables, data))
    optimizer.keep_masks()


def _fractions(sparsity, rounds):
    """Return for each round the fraction of the target, so that each keeps the same share of what is left."""
    if not sparsity:
        return [1.0]
    return [(1 - (1 - sparsity) ** (r / rounds)) / sparsity for r in range(1, rounds)] + [1.0]


def _check_finite(pruner, weights, sensitivities):
    for weight, values in zip(weights, sensitivities, strict=True):
        if not np.all(np.isfinite(ops.convert_to_numpy(values))):
            raise ValueError(
                f"{pruner!r} found NaN or infinity for {weight.path}, so its weights cannot be ranked: check the data "
                'and the weights of the model, or write pruner="magnitude".'
            )


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
