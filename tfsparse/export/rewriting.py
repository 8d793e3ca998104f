"""Rewrite a SavedModel so that its sparse variables are packed and its outputs stay the same."""

import os
import pathlib
import re
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from tfsparse.backend import keras_internals
from tfsparse.export import packing
from tfsparse.export.unpacking import PackedVariable


def load(source: str | os.PathLike):
    """Load a SavedModel.

    Args:
        source: Its directory.

    Returns:
        What `tf.saved_model.load` returns.

    Raises:
        ValueError: If that cannot be done; the message has the directory and the reason.
    """
    try:
        return tf.saved_model.load(str(source))
    except Exception as error:  # TensorFlow raises what its parser, its file system or its graph happens to raise
        lines = re.sub(r"\{\{.*?\}\}", "", str(error)).strip().splitlines() or [type(error).__name__]
        is_pattern = "[" in str(source)
        cause = "TensorFlow takes [ in a path for a pattern, so rename it" if is_pattern else "it may be damaged"
        raise ValueError(f"Cannot load {source} as a SavedModel; {cause}: {lines[0]}") from error


def pack(source: str | os.PathLike, path: str | os.PathLike, values: str = "float32") -> None:
    """Write a copy of a SavedModel whose sparse variables are packed. Without sparse variables, copy it as it is.

    All signatures and the endpoints of the root object are kept, with their variables, tables and files.

    Args:
        source: Directory of the SavedModel.
        path: Directory to write.
        values: Name of a `packing.ValueType`. Default: "float32".
    """
    loaded = load(source)
    endpoints, signatures = _endpoints(loaded), dict(loaded.signatures)
    variables = _variables([*signatures.values(), *_concrete(endpoints.values())])
    with tempfile.TemporaryDirectory() as folder:
        packed = {i: _packed(v, f"packed_{i}", values, pathlib.Path(folder)) for i, v in enumerate(variables)}
        root = keras_internals.trackable_object()
        for name, function in endpoints.items():
            setattr(root, name, function)
        root.packed = [p for p in packed.values() if p is not None]
        root.variables = [v for i, v in enumerate(variables) if packed[i] is None]
        root.files = [file for p in root.packed for file in p.files]
        root.resources = _resources(loaded)
        if root.packed:
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # JAX's cannot be written again
            tf.saved_model.save(root, str(path), signatures, options)
        else:
            shutil.copytree(source, path)


def weights(source: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """Return names and arrays of the variables that a SavedModel computes with, without packed ones."""
    loaded = load(source)
    variables = _variables([*loaded.signatures.values(), *_concrete(_endpoints(loaded).values())])
    return [(v.name.removesuffix(":0"), v.numpy()) for v in variables]


def is_packed(source: str | os.PathLike) -> bool:
    """Return whether `pack` wrote this SavedModel."""
    return any(pathlib.Path(source).glob("assets/packed_*.gz"))


def _packed(variable, name, values, folder):
    """Write the files of a variable to `folder` and return what replaces it; None if packing does not pay."""
    array = variable.numpy()
    contents = packing.sparse_parts(array)
    if contents is None:
        return None
    stored, scale = packing.stored(array, values)
    pieces = packing.pieces(stored)
    if stored is not array:
        contents = [packing.encode(piece) for piece in pieces]
    paths = [folder / f"{name}_{i}.gz" for i in range(len(contents))]
    for file, content in zip(paths, contents, strict=True):
        file.write_bytes(content)
    files = [tf.saved_model.Asset(str(file)) for file in paths]
    return PackedVariable(variable, name, files, [p.size for p in pieces], stored.dtype, scale)


def _endpoints(loaded) -> dict:
    """Return the functions of the root object."""
    children = tf.train.TrackableView.children(loaded)
    return {name: f for name, f in children.items() if isinstance(f, tf.types.experimental.GenericFunction)}


def _concrete(functions) -> list:
    return [concrete for function in functions for concrete in function.concrete_functions]


def _variables(functions) -> list:
    """Return the variables that functions read, each once. Keras 3 writes each twice; its functions read one copy."""
    return list({id(v): v for function in functions for v in function.variables}.values())


def _resources(loaded):
    """Return tables, other resources, and the files that they read."""
    kinds = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    return [node for node in tf.train.TrackableView(loaded).descendants() if isinstance(node, kinds)]
