"""Exports of models on JAX: what JAX writes into a SavedModel must be what the installed TensorFlow reads."""

import contextlib
import os
from collections.abc import Iterator

import keras

from tfsparse.backend import keras_internals

_OPTION = "jax_export_calling_convention_version"


@contextlib.contextmanager
def readable_by_tensorflow() -> Iterator[None]:
    """Inside, JAX exports in the newest version that both it and the installed TensorFlow know.

    JAX 0.10 writes version 10 by default, and TensorFlow before 2.20 reads up to 9.
    """
    if not _is_jax():
        yield
        return
    import jax

    default = getattr(jax.config, _OPTION)
    jax.config.update(_OPTION, min(default, keras_internals.newest_readable_xla_module()))
    try:
        yield
    finally:
        jax.config.update(_OPTION, default)


def check_runs(path: str | os.PathLike) -> None:
    """Run a SavedModel that JAX has written once, because TensorFlow reads its modules only when it runs them.

    Args:
        path: Directory of the SavedModel.

    Raises:
        ValueError: If the installed TensorFlow cannot run it.
    """
    if not _is_jax():
        return
    import jax
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    inputs = serve.structured_input_signature[1].items()
    try:
        serve(**{name: tf.zeros([n or 1 for n in spec.shape], spec.dtype) for name, spec in inputs})
    except tf.errors.InvalidArgumentError as error:
        if "deserialize" not in str(error):  # the model takes no inputs of size 1, but its module was read
            return
        raise ValueError(
            f"TensorFlow {tf.__version__} cannot run what JAX {jax.__version__} exports. Install a newer TensorFlow or "
            "an older JAX: TensorFlow 2.19 runs what JAX 0.5 to 0.10 export, TensorFlow 2.21 up to JAX 0.11."
        ) from error


def _is_jax():
    return keras.backend.backend() == "jax"
