"""Any sparsity of a model that was trained at several of them, see `tfsparse.Nested`."""

import warnings

import keras
import numpy as np

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas, variables
from tfsparse.masks import topk
from tfsparse.optimizers.compiled_model import check_keras3, innermost_optimizer, sparse_optimizer
from tfsparse.optimizers.recalibration import batch_normalizations, recalibrate
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import selection
from tfsparse.schedules import Nested


def at(model: keras.Model, sparsity: float, data=None, *, batches: int = 100) -> keras.Model:
    """Return a plain copy of a nested model at a sparsity: at a level of its training, or between two of them.

        masks = pruner.masks(dense weights, round(sparsity * size));  weights = pruner.forward(dense weights, masks)
        with data: recalibrate BatchNormalization

    This takes no training, and the given model does not change. What is zero at a sparsity is zero at all higher ones.
    The given model and its file hold all sparsities: its optimizer keeps the dense weights.

    Args:
        model: A model that was trained with the schedule `tfsparse.Nested`, or loaded from its file.
        sparsity: In [0, the highest level]: of all kernels together, or with `scope="layer"` of each of them. A layer
            with a target of its own gets as much less as all others.
        data: Inputs to measure the statistics of BatchNormalization with, as in `tfsparse.recalibrate`. During training
            they are a mixture over all levels. Default: None, which leaves them.
        batches: Batches of `data` at most, >= 1. Default: 100.

    Returns:
        The copy, without a `SparseOptimizer`. It is compiled as the given model is, with the optimizer inside.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If it was not trained with `tfsparse.Nested`, or the sparsity is not one of those that were trained.

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("nested", 0.98, "feather")])
        >>> tfsparse.export(tfsparse.at(model, 0.9), "out")
    """
    optimizer = nested_optimizer(model)
    with variables.restored([*model.variables, *optimizer.variables]):
        cut(optimizer, sparsity)
        plain = plain_copy(model)
    if data is not None and batch_normalizations(plain):
        recalibrate(plain, data, batches)
    elif batch_normalizations(plain):
        warnings.warn(
            "The statistics of BatchNormalization are a mixture over all sparsities of the training. Measure those of "
            f"this one: tfsparse.at(model, {sparsity:g}, data=(x, y)).",
            stacklevel=2,
        )
    return plain


def cut(optimizer: SparseOptimizer, sparsity: float) -> None:
    """Give the variables of a nested model the values of a sparsity, in place. The dense weights stay.

    Args:
        optimizer: What `nested_optimizer` returned.
        sparsity: In [0, the highest level].

    Raises:
        ValueError: If the sparsity is out of range.
    """
    sparsity, state = selection.check_sparsity(sparsity), optimizer.mask_state
    if sparsity > optimizer.sparsity:
        raise ValueError(
            f"sparsity={sparsity:g} is above the highest level that was trained: write at most {optimizer.sparsity:g}, "
            "or train with other levels."
        )
    with replicas.strategy_scope(optimizer):
        state.update(None, _counts(optimizer, sparsity))
        state.apply()


def is_nested(model: keras.Model) -> bool:
    """Return whether a model was trained with `tfsparse.Nested`, and holds the dense weights."""
    optimizer = sparse_optimizer(model)
    return optimizer is not None and optimizer.built and isinstance(optimizer.schedule, Nested)


def plain_copy(model: keras.Model) -> keras.Model:
    """Return a copy of a model with its present values, compiled as it is, with the optimizer inside.

    Raises:
        ValueError: If a loss or metric of the model cannot be rebuilt from its config.
    """
    plain = type(model).from_config(model.get_config())  # clone_model would compile it with a SparseOptimizer
    if not plain.built:
        plain.build_from_config(model.get_build_config())
    for copied, variable in zip(plain.variables, model.variables, strict=True):
        copied.assign(backend_ops.to_numpy(variable))
    if config := model.get_compile_config() if model.compiled else None:
        inner = keras.optimizers.serialize(innermost_optimizer(model.optimizer))
        try:
            plain.compile_from_config(config | {"optimizer": inner})
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{model.name!r} cannot be compiled again as it is: {str(error).strip().splitlines()[0]} Put "
                "@keras.saving.register_keras_serializable() before your own losses and metrics."
            ) from error
    return plain


def nested_optimizer(model: keras.Model) -> SparseOptimizer:
    """Return the optimizer of a nested model.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model was not trained with `tfsparse.Nested`.
    """
    check_keras3(model, "tfsparse.at(model of Keras 3, sparsity)")
    optimizer = sparse_optimizer(model)
    if not is_nested(model):
        trained = f"trained with {optimizer.schedule!r}" if optimizer is not None else "without a SparseOptimizer"
        raise ValueError(
            f"{model.name!r} is {trained}, so it has one sparsity: train it with callbacks=[tfsparse.Prune("
            '"nested", 0.98, "feather")] and do not compile it again, or cut it with tfsparse.prune.'
        )
    return optimizer


def _counts(optimizer, sparsity):
    """Return how many entries of each weight are zero at a sparsity; of a global group the sum is what counts."""
    state = optimizer.mask_state
    sizes, targets, counts = np.array(state.sizes), state.target_counts(), np.zeros(len(state.sizes), int)
    groups = state.groups if optimizer.pruner.is_global else [[i] for i in range(len(sizes))]
    for group in groups:
        size, target = int(sizes[group].sum()), int(targets[group].sum())
        own = target / max(round(optimizer.sparsity * size), 1)  # 1, unless a layer has a target of its own
        counts[group] = topk.split_proportionally(round(sparsity * size * own), sizes[group].tolist())
    return counts.tolist()
