"""What variables hold: counted, and put back."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops


def zero_fraction(variables: Sequence) -> float:
    """Return the zeros in some variables over their entries, counted now.

    Args:
        variables: Variables of Keras 3, tf_keras or TensorFlow, with at least one entry.
    """
    values = [backend_ops.to_numpy(v) for v in variables]
    return sum(int(np.sum(value == 0)) for value in values) / sum(value.size for value in values)


class SavedNumbers:
    """Base of dataclasses whose fields are numbers and are saved as one float32 vector, in the order of the fields."""

    @classmethod
    def load(cls, values):
        """Return the object from the vector that `dump` returned."""
        return cls(*(float(v) for v in values))

    def dump(self) -> np.ndarray:
        """Return the fields as a float32 vector."""
        return np.array(dataclasses.astuple(self), "float32")


@contextlib.contextmanager
def restored(variables: Sequence) -> Iterator[None]:
    """Give variables of Keras 3 the values back that they have now."""
    values = [np.array(ops.convert_to_numpy(v)) for v in variables]  # copies: JAX takes an array away when it trains
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
