"""Keras's dtype policy for a block of code."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set the dtype policy of the models that are created inside the block, then restore the former one.

    Args:
        name: A policy of Keras, such as "mixed_bfloat16".

    Yields:
        None.

    Examples:
        >>> with dtype_policy("mixed_bfloat16"):
        ...     model = build()
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
