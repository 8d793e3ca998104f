"""Exports of models on JAX: what JAX writes into a SavedModel must be what the installed TensorFlow reads."""

import contextlib
from collections.abc import Iterator

import keras

from tfsparse.backend import keras_internals

_OPTION = "jax_export_calling_convention_version"


@contextlib.contextmanager
def readable_by_tensorflow() -> Iterator[None]:
    """Inside, JAX exports in the newest version that both it and the installed TensorFlow know.

    JAX 0.10 writes version 10 by default, and TensorFlow before 2.20 reads up to 9.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    default = getattr(jax.config, _OPTION)
    jax.config.update(_OPTION, min(default, keras_internals.newest_readable_xla_module()))
    try:
        yield
    finally:
        jax.config.update(_OPTION, default)
