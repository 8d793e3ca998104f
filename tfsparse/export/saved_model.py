"""A SavedModel of the trained model, zeros kept."""

import os
import pathlib
import shutil
import tempfile

import keras

from tfsparse import wrapping
from tfsparse.layers import conversion, models


def export(model: keras.Model, path: str | os.PathLike) -> pathlib.Path:
    """Write a SavedModel directory with the model's `serve` signature, its weights as they are, zeros and all; of a
    model with trainable thresholds the plain one, see `tfsparse.finalize`.

    The directory appears whole or not at all: it is written beside `path` under a temporary name and renamed. Smaller
    files come with a later version; until then compress the directory, zeros compress well.

    Raises: ValueError if `path` exists, or if the model is in training and its weights do not match its masks.

    >>> tfsparse.export(model, "out/savedmodel")
    """
    path = pathlib.Path(path)
    if path.exists():
        raise ValueError(f"{path} exists already: remove it or export to another path.")
    _check_masks(model)
    if conversion.thresholded_layers(model):
        model = models.finalize(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        model.export(temporary / "savedmodel", verbose=False)
        os.replace(temporary / "savedmodel", path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _check_masks(model):
    """A restored or edited weight that is dense where its mask is zero must not leave the house as sparse."""
    optimizer = wrapping.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return
    for variable, mask in zip(optimizer.pruned_variables, optimizer.masks, strict=True):
        if bool(keras.ops.any(keras.ops.logical_and(mask == 0, variable != 0))):
            raise ValueError(
                f"{variable.path} is not zero where its mask is: the weights were changed after pruning (restored from "
                "an earlier epoch, for example by EarlyStopping). Call model.optimizer.apply_masks() to cut them to "
                "the masks, or export the model of the last epoch."
            )
