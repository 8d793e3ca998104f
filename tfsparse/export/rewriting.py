"""Rewrite a SavedModel so that its sparse variables are packed and its outputs stay the same."""

import collections
import itertools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfsparse.backend import files, keras_internals
from tfsparse.export import loading, packing
from tfsparse.export.unpacking import VariableFromFiles

_FUNCTIONS = (tf.types.experimental.GenericFunction, tf.types.experimental.ConcreteFunction)
_RESOURCES = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
_OWN = {"signatures", "packed", "_unpacking", "_files"}  # attributes of the root that are written anew


def pack(
    source: str | os.PathLike,
    path: str | os.PathLike,
    values: str = "float32",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Write a copy of a SavedModel whose sparse variables are packed. Without sparse variables, copy it as it is.

    Its signatures and objects are kept, with all endpoints, and the variables, tables and files that these need.

    Args:
        source: Directory of the SavedModel, dense or packed.
        path: Directory to write.
        values: Name of a `packing.ValueType`. Default: "float32".
        progress: Called after each variable with the entries so far and those of all variables. Default: nothing.
    """
    loaded, value = _load_with_variables(source)
    variables = _variables(loaded)
    entries = [*itertools.accumulate(variable.shape.num_elements() for variable in variables)]
    with tempfile.TemporaryDirectory() as folder:
        unpacking = []
        for i, variable in enumerate(variables):
            packed = _packed(variable, value(variable), f"packed_{i}", values, pathlib.Path(folder))
            if packed is not None:
                unpacking.append(packed)
            progress(entries[i], entries[-1])
        if not unpacking:
            _copy(source, path)
            return
        root = _root(loaded)
        root.packed, root._unpacking = [p.variable for p in unpacking], unpacking
        root._files = [file for p in unpacking for file in p.files]
        for variable in root.packed:
            keras_internals.leave_out_of_checkpoints(variable)
        _assign(root, value, without=root.packed)
        _save(root, path, loaded.signatures)


def unpack(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write a dense copy of a SavedModel.

    Args:
        source: Directory of the SavedModel, dense or packed.
        path: Directory to write.
    """
    loaded, value = _load_with_variables(source)
    if is_packed(source):
        root = _root(loaded)
        _assign(root, value)
        _save(root, path, loaded.signatures)
    else:
        collections.deque(map(value, _variables(loaded)), maxlen=0)  # raises for a damaged file
        _copy(source, path)


def weights(source: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """Return names and arrays of the variables that a SavedModel computes with."""
    loaded, value = loading.load_lazily(source)
    return [(v.name.removesuffix(":0"), value(v)) for v in _variables(loaded)]


def is_packed(source: str | os.PathLike) -> bool:
    """Return whether `pack` wrote this SavedModel, with sparse variables."""
    return any(pathlib.Path(source).glob("assets/packed_*.gz"))


def _load_with_variables(source):
    loaded, value = loading.load_lazily(source)
    if is_packed(source) and not hasattr(loaded, "_unpacking"):
        raise ValueError(
            f"{source} was packed by an earlier version of tfsparse, which did not keep its weights as variables: "
            "export the model that it was made of."
        )
    return loaded, value


def _assign(root, value, without=()):
    """Give the variables of an object their values, but those whose values come from files."""
    left_out = {id(variable) for variable in without}
    for node in tf.train.TrackableView(root).descendants():
        if isinstance(node, tf.Variable) and id(node) not in left_out:
            node.assign(value(node))


def _copy(source, path):
    """Copy a directory, without what is being written into it now."""

    def temporaries(folder, names):
        return [name for name in names if files.is_temporary(pathlib.Path(folder, name))]

    shutil.copytree(source, path, ignore=temporaries)


def _save(root, path, signatures):
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # JAX's cannot be written again
    tf.saved_model.save(root, str(path), dict(signatures), options)


def _packed(variable, array, name, values, folder):
    """Write the files of a variable to `folder` and return what unpacks them; None if packing does not pay."""
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
    assets = [tf.saved_model.Asset(str(file)) for file in paths]
    return VariableFromFiles(variable, name, assets, [p.size for p in pieces], stored.dtype, scale)


def _variables(loaded) -> list:
    """Return the variables that functions read, each once. Keras 3 writes each twice; its functions read one copy."""
    functions = [f for node in tf.train.TrackableView(loaded).descendants() for f in _functions(node, loaded)]
    return list({id(v): v for function in functions for v in function.variables}.values())


def _functions(node, loaded) -> list:
    """Return the concrete functions of a function, or of signatures, which a SavedModel inside another one has too."""
    if isinstance(node, type(loaded.signatures)):
        return list(node.values())
    return getattr(node, "concrete_functions", [node]) if isinstance(node, _FUNCTIONS) else []


def _root(loaded):
    """Return a copy of a loaded object, of everything in it that leads to a function or to what functions need.

    Left out are the second copies that Keras 3 writes of variables, and the state of an optimizer.
    """
    variables = _variables(loaded)
    nodes, kinds = tf.train.TrackableView(loaded).descendants(), (*_FUNCTIONS, *_RESOURCES, type(loaded.signatures))
    needed = {id(v) for v in variables} | {id(node) for node in nodes if isinstance(node, kinds)}
    kept = _with_parents(needed, nodes)
    objects = [node for node in nodes if _is_object(node)]
    copies = {id(node): keras_internals.trackable_object() for node in objects}
    for node in objects:
        for name, child in tf.train.TrackableView.children(node).items():
            is_kept = isinstance(child, tf.Variable) or id(child) in kept
            if is_kept and not (node is loaded and name in _OWN):
                setattr(copies[id(node)], name, _copied(child, copies))
    root = copies[id(loaded)]
    root.variables = variables
    root.trainable_variables = [v for v in variables if v.trainable]
    root.non_trainable_variables = [v for v in variables if not v.trainable]
    return root


def _with_parents(ids, nodes) -> set:
    """Return ids of nodes, and those of all nodes that lead to them."""
    parents = collections.defaultdict(list)
    for node in nodes:
        for child in tf.train.TrackableView.children(node).values():
            parents[id(child)].append(id(node))
    found, left = set(ids), list(ids)
    while left:
        new = set(parents[left.pop()]) - found
        found |= new
        left += new
    return found


def _is_object(node) -> bool:
    return isinstance(node, type(keras_internals.trackable_object()))


def _copied(node, copies):
    if isinstance(node, list):
        return [_copied(item, copies) for item in node]
    if isinstance(node, dict):
        return {key: _copied(item, copies) for key, item in node.items()}
    return copies.get(id(node), node)
