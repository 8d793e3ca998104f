"""The dtype policy for a while: Keras can only set it."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Models that are made inside compute by this policy; after it the former one holds again.

    >>> with dtype_policy("mixed_bfloat16"): model = build()
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
