"""Load a SavedModel, with the values of its variables or without them."""

import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfsparse.backend import keras_internals


def load(source: str | os.PathLike):
    """Load a SavedModel.

    Args:
        source: Its directory.

    Returns:
        What `tf.saved_model.load` returns.

    Raises:
        ValueError: If that cannot be done; the message has the directory and the reason.
    """
    return _load(source, tf.saved_model.LoadOptions())


def load_lazily(source: str | os.PathLike) -> tuple[tf.Module, Callable[[tf.Variable], np.ndarray]]:
    """Load a SavedModel without the values of its variables, which are read one at a time.

    A large model then needs memory for one variable. `tf.saved_model.load` needs it for all of them, and twice for a
    SavedModel of Keras 3, which holds each variable twice. Where more than the variables has a state, such as a table
    that grows, the values are loaded at once.

    Args:
        source: Its directory.

    Returns:
        What `tf.saved_model.load` returns, with variables without values; and the function that reads the value of one
        of them.

    Raises:
        ValueError: If that cannot be done; the message has the directory and the reason.
    """
    loaded = _load(source, tf.saved_model.LoadOptions(experimental_skip_checkpoint=True))
    try:
        reader = tf.train.load_checkpoint(str(pathlib.Path(source, "variables", "variables")))
        keys = _checkpoint_keys(loaded, keras_internals.objects_in_checkpoint(reader))
    except Exception:  # no such file, or a damaged one, or one without objects: the whole load says what is wrong
        keys = None
    if keys is None:
        return load(source), lambda variable: variable.numpy()

    def value(variable):
        if id(variable) not in keys:  # its value came from a file of its own when the SavedModel was loaded
            return variable.numpy()
        try:
            return reader.get_tensor(keys[id(variable)])
        except Exception as error:
            raise _not_loaded(source, error) from error

    return loaded, value


def _checkpoint_keys(root, objects) -> dict[int, str] | None:
    """Return the key of each variable by its id; None if something else has a state.

    The objects of a checkpoint and those of the loaded SavedModel have the same names for their children.
    """
    found, left = {0: root}, [0]
    while left:
        number = left.pop()
        children = tf.train.TrackableView.children(found[number])
        for child in objects[number].children:
            if child.node_id not in found and child.local_name in children:
                found[child.node_id] = children[child.local_name]
                left.append(child.node_id)
    states = {number: objects[number].attributes for number in found if objects[number].attributes}
    if not all(isinstance(found[number], tf.Variable) for number in states):
        return None
    return {id(found[number]): state[0].checkpoint_key for number, state in states.items()}


def _load(source, options):
    try:
        return tf.saved_model.load(str(source), options=options)
    except Exception as error:  # TensorFlow raises what its parser, its file system or its graph happens to raise
        raise _not_loaded(source, error) from error


def _not_loaded(source, error) -> ValueError:
    lines = re.sub(r"\{\{.*?\}\}", "", str(error)).strip().splitlines() or [type(error).__name__]
    is_pattern = set("[\\") & set(pathlib.Path(source).as_posix())
    cause = "TensorFlow takes [ and \\ in a path for a pattern, so rename it" if is_pattern else "it may be damaged"
    return ValueError(f"Cannot load {source} as a SavedModel; {cause}: {lines[0]}")
