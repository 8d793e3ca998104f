"""Training with masks that do not change: the zeros of a sparse model, or a connectivity that the user gives."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from tfsparse.optimizers.compiled_model import check_keras3, check_ready, sparsify
from tfsparse.optimizers.kernel_checks import check_kernels, lora_hint
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import selection
from tfsparse.pruners.magnitude import Magnitude


def keep_zeros(model: keras.Model, masks=(), *, exclude=()) -> SparseOptimizer:
    """Keep every weight that is zero now at zero in all further training, without a schedule.

        mask = weight != 0                              # once, for trainable weights of rank >= 2 with zeros
        mask, weight = given, weight * given            # for those with a mask in `masks`
        after every optimizer step:  weight = weight * mask

    Use it for a model that is sparse already, or to train with a fixed connectivity. Call it after `compile`, and again
    after every further `compile`. The masks are variables of the optimizer, so files and `BackupAndRestore` resume with
    them. A later `Prune` starts from the masks of the weights that it prunes. A weight that is all zero stays free to
    train, unless it has a mask. Frozen weights stay as they are without it.

    Args:
        model: A built and compiled model, trained or not. A schedule that it follows ends here.
        masks: `{layer: mask}`, or pairs of a layer or variable and its mask: 1 lives, 0 is zero from now on. A mask is
            an array of the shape of the weight. A layer may be given by its name. Default: none, only zeros are kept.
        exclude: Layers, their names, or variables whose zeros may grow; one of them or several.

    Returns:
        The new optimizer.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If the model is not ready, if it has no zeros to keep and no mask is given, or if a mask has another
            shape than its weight, holds other values than 0 and 1, or leaves nothing of its weight.

    Examples:
        >>> model = keras.models.load_model("pruned.keras", compile=False)
        >>> model.compile("adam", loss="mse")
        >>> tfsparse.keep_zeros(model)
        >>> model.fit(x, y, epochs=10)

        >>> tfsparse.keep_zeros(model, {"hidden": np.tri(8, 8)})
    """
    check_keras3(model, "tfsparse.tfmot.keep_zeros(model)")
    check_ready(model)
    check_kernels(model, chosen=True)
    given, excluded = _given(model, masks), selection.Choice(exclude=exclude).resolve(model)
    _check_not_excluded(given, excluded)
    named = {id(v) for v, _ in given + excluded}
    pairs = given + _zeros(v for v in model.trainable_variables if len(v.shape) > 1 and id(v) not in named)
    if not pairs:
        raise ValueError(
            f"No trainable weight of rank >= 2 of {model.name!r} has zeros to keep: prune the model first, or give "
            f"masks, keep_zeros(model, {{layer: mask}}). {lora_hint(model)}".rstrip()
        )
    return train_with(model, pairs)


def train_with(model, masks: list[tuple]) -> SparseOptimizer:
    """Wrap the optimizer of a compiled model in one that keeps these masks; all other weights are dense.

    Args:
        model: A built and compiled model.
        masks: Pairs of a trainable variable and an array of zeros and ones.

    Returns:
        The new optimizer.
    """
    values = {id(v): mask.astype("float32") for v, mask in masks}
    dense = [v for v in model.trainable_variables if selection.is_prunable(v) and id(v) not in values]
    optimizer = sparsify(
        model,
        "constant",
        0.0,
        Magnitude(scope="layer"),  # with a common threshold a zero could return for another one
        total_steps=2,
        sparsities=[(v, 0.0) for v, _ in masks],
        exclude=dense,
    )
    own = [values[id(v)] for v in optimizer.pruned_variables]
    for variable, value in zip(optimizer.masks, own, strict=True):
        variable.assign(value)
    optimizer.mask_state.set_target_counts([int(np.sum(value == 0)) for value in own])
    optimizer.apply_masks()
    return optimizer


def check_masks(name: str, masks: Iterable[tuple]) -> None:
    """Refuse masks that are none.

    Args:
        name: Name of the argument, for the message.
        masks: Pairs of a variable and its mask.

    Raises:
        ValueError: If one has another shape than its variable, other values than 0 and 1, or only zeros.
    """
    for variable, mask in masks:
        if mask.shape != tuple(variable.shape):
            raise ValueError(
                f"{name} holds one of shape {mask.shape}, expected {tuple(variable.shape)} of {variable.path}."
            )
        if (wrong := mask[(mask != 0) & (mask != 1)]).size:
            raise ValueError(f"{name} holds {wrong[0]} for {variable.path}, expected only 1 (lives) and 0 (pruned).")
        if not mask.any():
            raise ValueError(
                f"{name} leaves no weight of {variable.path} alive, so nothing would pass through its layer."
            )


def _given(model, masks):
    """Return pairs of a variable and the mask that the user gave for it."""
    pairs = [(_variable(model, item), ops.convert_to_numpy(mask)) for item, mask in selection.as_pairs(masks)]
    check_masks("masks", pairs)
    return pairs


def _variable(model, item):
    variables = [v for layer in selection.layers_named(model, item) for v in selection.kernels(layer)]
    if len(variables) == 1:
        return variables[0]
    paths = ", ".join(v.path for v in variables)
    raise ValueError(
        f"One mask was given for several weights, {paths}: give pairs of a variable and its mask, such as "
        "keep_zeros(model, [(layer.kernel, mask)])."
    )


def _check_not_excluded(given, excluded):
    left_out = {id(v) for v, _ in excluded}
    for variable, _ in given:
        if id(variable) in left_out:
            raise ValueError(f"{variable.path} has a mask and is in exclude: leave it out of one of them.")


def _zeros(variables):
    """Return pairs of a variable and where it is not zero, for those that are zero in part."""
    pairs = ((v, ops.convert_to_numpy(v) != 0) for v in variables)
    return [(v, mask) for v, mask in pairs if mask.any() and not mask.all()]
