"""A SavedModel of a trained model: small on disk, served by TensorFlow without tfsparse."""

import contextlib
import io
import logging
import os
import pathlib
import re
import tempfile
from collections.abc import Callable

import keras

from tfsparse.backend import files, keras_internals
from tfsparse.backend.registry import check_choice
from tfsparse.export import jax_modules, packing
from tfsparse.export.plain_models import plain_model

_SCOPE_NAME = re.compile(r"[A-Za-z0-9_.\\/>-]*")
_ROOT_NAME = re.compile(r"[A-Za-z0-9.]")


def export(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    values: str = "float32",
    dense: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> pathlib.Path:
    """Write a SavedModel directory in which sparse weights take few bytes. TensorFlow alone loads and serves it.

        on disk:        gzip(one bit per weight | the bytes of the weights that are not zero), for every sparse weight
        while loading:  unpacked once, by TensorFlow's own operations, to the dense variable that the model reads

    The result is smaller on disk. It needs as much time and memory as a dense model. With values="float32" outputs are
    the same bit for bit. Weights of rank 1, and weights with too few zeros to become smaller, are saved densely. What
    reads the files of a SavedModel instead of loading it, such as TFLite's converter, needs one with dense=True.

    The directory is written under a temporary name and renamed: it appears whole or not at all. If the schedule of the
    model has not ended, a warning says so.

    Args:
        model: A Keras 3 model, whose signature `serve` is written; layers with trainable thresholds become plain ones.
            Or a tf_keras model, whose pruning wrappers are stripped. Or the directory of a SavedModel, dense or packed,
            whose signatures and endpoints are all kept; it is loaded, and a SavedModel is a program, so take it from
            nobody whom you do not trust.
        path: The new directory.
        values: How the non-zero entries of sparse weights are stored: "float32", as they are; "float16", rounded;
            "int8", rounded, with a scale for each output channel. They are float32 again after loading.
            Default: "float32".
        dense: If True, write all weights with their zeros, as `model.export(path)` does. Default: False.
        progress: Called after each weight that was packed, with the entries so far and those of all weights. Not
            called if `dense`. Default: does nothing.

    Returns:
        `path`.

    Raises:
        ValueError: If `path` exists or is the name of a TFLite file, if `values` is unknown, or if pruned weights are
            not zero where their masks are.

    Examples:
        >>> tfsparse.export(model, "out/savedmodel")
        >>> loaded = tf.saved_model.load("out/savedmodel"); loaded.serve(x)
    """
    path = pathlib.Path(path)
    _check_options(path, values, dense)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _without_warnings():
        files.write(
            path, lambda new: _write_dense(model, new) if dense else _write_packed(model, new, values, progress)
        )
    return path


def write_for_tflite(model: keras.Model | str | os.PathLike, path: pathlib.Path) -> pathlib.Path:
    """Write the dense SavedModel of which TFLite's converter makes a file.

    Args:
        model: A model, or the directory of a SavedModel, dense or packed.
        path: The new directory. The batch of its signatures is fixed if the model fixes it.

    Returns:
        `path`.
    """
    with _without_warnings():
        _write_dense(model, path, keeps_batch=True)
    return path


def _write_dense(model, path, keeps_batch=False):
    """Write the SavedModel that the model's own Keras writes, or a dense copy of a SavedModel."""
    if isinstance(model, (str, os.PathLike)):
        from tfsparse.export import rewriting  # not at the top: it imports TensorFlow

        rewriting.unpack(model, path)
        return
    model = plain_model(model)
    if isinstance(model, keras.Model):
        _check_names(model)
        _check_outputs(model)
        with jax_modules.readable_by_tensorflow():
            model.export(path, verbose=False, input_signature=_signature(model, keeps_batch))
        jax_modules.check_runs(path)
    else:
        with contextlib.redirect_stdout(io.StringIO()):  # tf_keras has no verbose=False
            model.export(str(path))


def _signature(model, keeps_batch):
    """Return the inputs with the batch that a model fixes; None for Keras's own signature, whose batch is always open.

    The states of stateful layers have that batch, so no other fits.
    """
    inputs = getattr(model, "inputs", None) or []
    has_states = any(getattr(layer, "stateful", False) for layer in keras_internals.all_layers(model))
    if not (keeps_batch or has_states) or all(not t.shape or t.shape[0] is None for t in inputs):
        return None
    structure = inputs[0] if isinstance(model, keras.Sequential) else model.input
    return [keras.tree.map_structure(lambda t: keras.InputSpec(t.dtype, tuple(t.shape), name=t.name), structure)]


def _check_names(model):
    """Refuse a name that TensorFlow does not take: it names the operations of a graph after the layers.

    An error from inside a scope would leave Keras's stack of names as it is, and the user's next models with them.

    Raises:
        ValueError: If there is such a name.
    """
    if keras.backend.backend() != "tensorflow":
        return
    layers = keras_internals.all_layers(model)
    wrong = [layer.name for layer in layers if not _SCOPE_NAME.fullmatch(layer.name)]
    if not _ROOT_NAME.match(model.name):
        wrong = [model.name, *wrong]
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is the name of a layer or model, and TensorFlow cannot name operations after it: expected "
            'letters, digits and _.-/ only. Build it with another name, such as name="dense_1".'
        )


def _check_outputs(model):
    """Refuse outputs inside of outputs, which signatures cannot have.

    Raises:
        ValueError: If there are such outputs.
    """
    outputs = model.output if getattr(model, "outputs", None) and not isinstance(model, keras.Sequential) else []
    outputs = outputs.values() if isinstance(outputs, dict) else outputs
    if isinstance(outputs, keras.KerasTensor) or not any(keras.tree.is_nested(output) for output in outputs):
        return
    raise ValueError(
        f"{model.name!r} returns lists or dicts inside of a list or dict, and a SavedModel returns tensors alone: "
        "export a model with the same outputs in one list, keras.Model(model.input, model.outputs)."
    )


def _write_packed(model, path, values, progress):
    from tfsparse.export import rewriting  # not at the top: it imports TensorFlow

    with tempfile.TemporaryDirectory() as folder:  # TensorFlow cannot read beside a `path` with [ in it
        source = model
        if not isinstance(model, (str, os.PathLike)):
            source = pathlib.Path(folder, "dense")
            _write_dense(model, source)
        rewriting.pack(source, path, values, progress)


@contextlib.contextmanager
def _without_warnings():
    """Hide TensorFlow's messages about files that are written to a temporary directory."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_options(path, values, dense):
    check_choice("values", values, list(packing.value_types))
    if path.suffix.lower() == ".tflite":
        options = {"float16": ', values="float16"', "int8": ', values="int8", representative=x[:200]'}.get(values, "")
        raise ValueError(
            f"export writes the directory of a SavedModel, but {path} is the name of a TFLite file. Write "
            f'tfsparse.export_tflite(model, "{path}"{options}).'
        )
    if path.exists():
        raise ValueError(f"{path} exists already: remove it, or export to another path.")
    if dense and values != "float32":
        raise ValueError(f'dense=True writes all weights as they are: leave out values="{values}" or dense=True.')
