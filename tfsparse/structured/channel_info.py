"""What is known of a tensor's channels while the graph is walked."""

import dataclasses

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Mark:
    """The channels of one tensor.

    Args:
        shape: of the tensor, None where unknown.
        axis: where the channels lie, counted from the right, so that broadcasting keeps it.
        ids: one per channel.
        values: what each channel is constantly, in inference mode and for every input and place; NaN where it varies.
    """

    shape: tuple
    axis: int
    ids: np.ndarray
    values: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Which channels are constant."""
        return np.isfinite(self.values)

    def array(self):
        """Constants as a tensor that an elementwise operation takes, one place of one example; zero where they vary."""
        values = np.where(self.constant, self.values, 0).astype("float32")
        shape = [1] * len(self.shape)
        shape[self.axis] = len(self.ids)
        return keras.ops.convert_to_tensor(values.reshape(shape))

    def over_shape(self, what: np.ndarray) -> np.ndarray:
        """Something per channel at every entry of one example."""
        shape = [1] * (len(self.shape) - 1)
        shape[self.axis] = len(self.ids)
        return np.broadcast_to(what.reshape(shape), self.shape[1:])


def varying(count: int) -> np.ndarray:
    """The values of channels that vary."""
    return np.full(count, np.nan)
