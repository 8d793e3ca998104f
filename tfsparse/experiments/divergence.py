"""A training that has diverged ends with an error, whatever its method. `Prune` and others find it at a mask update."""

import math

import keras
import numpy as np


class StopAtDivergence(keras.callbacks.Callback):
    """Raises after an epoch whose loss, or a weight after it, is not finite. It comes before callbacks that write.

    Raises:
        ValueError: If the loss, the validation loss or a weight is NaN or infinite.
    """

    def on_epoch_end(self, epoch, logs=None):
        wrong = [key for key in ("loss", "val_loss") if not math.isfinite((logs or {}).get(key, 0.0))]
        wrong += [weight.path for weight in self.model.weights if not _is_finite(weight)]
        if wrong:
            raise ValueError(
                f"Training has diverged: {wrong[0]} is NaN or infinite after epoch {epoch + 1}. Lower the learning "
                "rate, for example --set optimizer.learning_rate=0.001, and train anew."
            )


def _is_finite(weight) -> bool:
    return bool(np.isfinite(keras.ops.convert_to_numpy(weight)).all())
