"""A SavedModel directory to another one that gives the same answers, its sparse variables packed."""

import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from tfsparse.export import packing
from tfsparse.export.unpacking import PackedVariable


def pack(source: str | os.PathLike, path: str | os.PathLike, values: str = "float32") -> None:
    """Write the SavedModel `source` to `path`, its sparse variables packed; if there are none, as it is.

    What stays: all signatures and the endpoints of the root object, with their variables, tables and files.
    """
    loaded = tf.saved_model.load(str(source))
    endpoints, signatures = _endpoints(loaded), dict(loaded.signatures)
    variables = _variables([*signatures.values(), *_concrete(endpoints.values())])
    with tempfile.TemporaryDirectory(dir=pathlib.Path(path).parent) as folder:
        packed = {i: _packed(v, f"packed_{i}", values, pathlib.Path(folder)) for i, v in enumerate(variables)}
        root = tf.__internal__.tracking.AutoTrackable()
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
    """The names and the arrays of what the functions of a SavedModel read; of a packed one, of what is not packed."""
    loaded = tf.saved_model.load(str(source))
    read = _variables([*loaded.signatures.values(), *_concrete(_endpoints(loaded).values())])
    return [(v.name.removesuffix(":0"), v.numpy()) for v in read]


def is_packed(source: str | os.PathLike) -> bool:
    """Did `pack` write this SavedModel?"""
    return any(pathlib.Path(source).glob("assets/packed_*.gz"))


def _packed(variable, name, values, folder):
    """What stands in the place of a variable, its files in `folder`; None if it is not sparse."""
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
    """The functions of the root object."""
    children = tf.train.TrackableView.children(loaded)
    return {name: f for name, f in children.items() if isinstance(f, tf.types.experimental.GenericFunction)}


def _concrete(functions) -> list:
    return [concrete for function in functions for concrete in function.concrete_functions]


def _variables(functions) -> list:
    """The variables that functions read, each once. Keras 3 writes each twice, and its functions read one of them."""
    return list({id(v): v for function in functions for v in function.variables}.values())


def _resources(loaded):
    """Tables and the like, and files that they read."""
    kinds = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    return [node for node in tf.train.TrackableView(loaded).descendants() if isinstance(node, kinds)]
