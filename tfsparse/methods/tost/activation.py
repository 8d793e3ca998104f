"""The activation between Swish and ReLU."""

import keras
from keras import ops

from tfsparse.optimizers.masked_layer import TrainingActivation

_SMALLEST = 1e-6  # smoothness to divide by; at 0 the division is not used, but must be finite


def smooth_relu(x, smoothness):
    """Return the function between Swish and ReLU.

        x * sigmoid(x / smoothness)    for smoothness > 0
        max(x, 0)                      for smoothness = 0

    Args:
        x: Float tensor.
        smoothness: Scalar tensor, >= 0.

    Returns:
        A tensor of the shape and dtype of `x`.

    Examples:
        >>> smooth_relu(np.array([-1.0, 2.0]), np.array(0.0))
        array([0., 2.])
    """
    swish = x * ops.sigmoid(x / ops.cast(ops.maximum(smoothness, _SMALLEST), x.dtype))
    return ops.where(smoothness > 0, swish, ops.relu(x))


@keras.saving.register_keras_serializable(package="tfsparse")
class SmoothReLU(TrainingActivation, keras.layers.Layer):
    """An activation that is smooth in training and becomes ReLU.

        forward:   x * sigmoid(x / smoothness), and max(x, 0) at smoothness 0

    At smoothness 1 it is Swish (SiLU). The callback `ToST` brings it to 0. `tfsparse.tost` puts it into a model;
    `tfsparse.finalize` puts ReLU in its place. In layers of your own write it as the activation.

    Args:
        smoothness: Its first smoothness, >= 0. Default: 1.0.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        smoothness: Variable, which is not trained.

    Raises:
        ValueError: If `smoothness` is not a finite number >= 0.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022), use Swish in sparse
        networks. The functions between Swish and ReLU are ours.

    Examples:
        >>> keras.layers.Dense(300, activation=tfsparse.SmoothReLU())
    """

    def __init__(self, smoothness: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(smoothness, bool) or not isinstance(smoothness, (int, float)) or not 0 <= smoothness < 1e30:
            raise ValueError(f"smoothness={smoothness!r}: expected a number >= 0: 1 is Swish, 0 is ReLU.")
        self.supports_masking, self._initial = True, float(smoothness)
        self.smoothness = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self._initial), trainable=False, dtype="float32",
            autocast=False, name="smoothness",
        )  # fmt: skip
        self.built = True

    def call(self, inputs):
        return smooth_relu(inputs, self.smoothness)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "smoothness": self._initial}

    @property
    def own_variables(self):
        return [self.smoothness]

    def plain_name(self) -> str:
        """Return "relu".

        Raises:
            ValueError: If the smoothness is not 0 yet.
        """
        smoothness = float(ops.convert_to_numpy(self.smoothness))
        if smoothness:
            raise ValueError(
                f"{self.name!r} is not ReLU yet, its smoothness is {smoothness:g}: train to the end with "
                "callbacks=[tfsparse.ToST()], and finalize then."
            )
        return "relu"
