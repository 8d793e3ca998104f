"""A SavedModel of the trained model: small on disk, stock to serve."""

import contextlib
import io
import logging
import os
import pathlib
import shutil
import sys
import tempfile

import keras

from tfsparse.export import packing
from tfsparse.optimizers import compiled_model, masked_layer


def export(
    model: keras.Model | str | os.PathLike, path: str | os.PathLike, values: str = "float32", dense: bool = False
) -> pathlib.Path:
    """Write a SavedModel directory in which sparse weights take few bytes; TensorFlow alone loads and serves it.

        on disk:        gzip(a bit per weight, the bytes of those that are not zero), for every sparse weight
        while loading:  decoded once, by TensorFlow's own operations, to the dense variable that the model computes with

    So it takes less room, not less time or memory. Outputs are the same bit for bit with values="float32". Weights of
    rank 1, and those with too few zeros to gain by it, are saved as always.

    The directory appears whole or not at all: it is written beside `path` under a temporary name and renamed.

    Args:
        model: a Keras 3 model, of which the `serve` signature is written, of one with trainable thresholds the plain
            one; a tf_keras model, of which wrappers are stripped; or the directory of a SavedModel, of which all
            signatures are kept.
        path: of the new directory.
        values: how non-zero entries of sparse weights are stored: "float32", as they are; "float16"; "int8", with a
            scale for each output channel. The last two are rounded, and become float32 when they are loaded.
        dense: write it as `model.export(path)` does, zeros and all.

    Returns: `path`.

    Raises: ValueError if `path` exists or is the name of a TFLite file, or if the model is in training and its weights
        do not match its masks.

    >>> tfsparse.export(model, "out/savedmodel")
    >>> loaded = tf.saved_model.load("out/savedmodel"); loaded.serve(x)
    """
    path = pathlib.Path(path)
    _check_options(path, values, dense)
    with _appearing(path) as new, _quietly():
        if dense:
            _write_dense(model, new)
        elif isinstance(model, (str, os.PathLike)):
            _write_packed(model, new, values)
        else:
            _write_dense(model, new.parent / "dense")
            _write_packed(new.parent / "dense", new, values)
    return path


def _write_dense(model, path):
    """What the model's own road writes."""
    tf_keras = sys.modules.get("tf_keras")  # never imported here: it would change what tf.keras means
    if tf_keras is not None and isinstance(model, tf_keras.Model):
        with contextlib.redirect_stdout(io.StringIO()):  # it has no verbose=False
            _stripped(model).export(str(path))
        return
    _check_masks(model)
    if masked_layer.masked_layers(model):
        model = masked_layer.plain_model(model)
    model.export(path, verbose=False)


def _write_packed(source, path, values):
    from tfsparse.export import rewriting  # late: it imports TensorFlow

    rewriting.pack(source, path, values)


def _stripped(model):
    """A tf_keras model without wrappers and thresholds, its weights cut to their masks."""
    from tfsparse import tfmot

    if masked_layer.masked_layers(model):
        return tfmot.finalize(model)
    return tfmot.strip_pruning(model) if tfmot.kernels.wrappers(model) else model


@contextlib.contextmanager
def _appearing(path):
    """Where to write what shall appear at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary / "savedmodel"
        os.replace(temporary / "savedmodel", path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quietly():
    """Without TensorFlow's lines about assets in a directory that is renamed in a moment."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_options(path, values, dense):
    if values not in packing.VALUES:
        raise ValueError(f'values={values!r} is not known: expected "float32", "float16" or "int8".')
    if path.suffix == ".tflite":
        options = {"float32": "", "float16": ', values="float16"', "int8": ', values="int8", representative=x[:200]'}
        raise ValueError(
            f"export writes the directory of a SavedModel, and {path} is the name of a TFLite file: write "
            f'tfsparse.export_tflite(model, "{path}"{options[values]}).'
        )
    if path.exists():
        raise ValueError(f"{path} exists already: remove it or export to another path.")
    if dense and values != "float32":
        raise ValueError(f'dense=True writes all weights as they are: leave values="{values}" out, or dense=True.')


def _check_masks(model):
    """A restored or edited weight that is dense where its mask is zero must not leave the house as sparse."""
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built:
        return
    for variable, mask in zip(optimizer.pruned_variables, optimizer.masks, strict=True):
        if bool(keras.ops.any(keras.ops.logical_and(mask == 0, variable != 0))):
            raise ValueError(
                f"{variable.path} is not zero where its mask is: the weights were changed after pruning (restored from "
                "an earlier epoch, for example by EarlyStopping). Call model.optimizer.apply_masks() to cut them to "
                "the masks, or export the model of the last epoch."
            )
