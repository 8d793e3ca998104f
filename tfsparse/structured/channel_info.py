"""What is known of a tensor's channels."""

import dataclasses

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelInfo:
    """The channels of one tensor.

    Args:
        shape: Shape of the tensor, with None for unknown sizes.
        axis: The channel axis, counted from the right, so that broadcasting does not change it.
        ids: One id per channel.
        values: For each channel its constant value: in inference mode, for every input, at every position. NaN for
            channels that are not constant.
    """

    shape: tuple
    axis: int
    ids: np.ndarray
    values: np.ndarray

    @property
    def is_constant(self) -> np.ndarray:
        """Return one boolean per channel."""
        return np.isfinite(self.values)

    def constant_tensor(self):
        """Return the constants as one position of one example, 0 for channels that are not constant."""
        values = np.where(self.is_constant, self.values, 0).astype("float32")
        return keras.ops.convert_to_tensor(values.reshape(self._broadcastable(len(self.shape))))

    def at_every_position(self, per_channel: np.ndarray) -> np.ndarray:
        """Return an array with one entry per channel, repeated for all positions of one example."""
        return np.broadcast_to(per_channel.reshape(self._broadcastable(len(self.shape) - 1)), self.shape[1:])

    def _broadcastable(self, rank):
        shape = [1] * rank
        shape[self.axis] = len(self.ids)
        return shape


def not_constant(count: int) -> np.ndarray:
    """Return the values of channels that are not constant."""
    return np.full(count, np.nan)
