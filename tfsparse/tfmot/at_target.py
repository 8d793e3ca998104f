"""The callback `AtTarget` for callbacks of tf_keras."""

import tf_keras
from tensorflow_model_optimization.sparsity.keras import UpdatePruningStep

from tfsparse.callbacks.at_target_core import AtTargetCore
from tfsparse.tfmot.prune import reached_target


class AtTarget(AtTargetCore, tf_keras.callbacks.Callback):
    """Lets a callback that keeps the best epoch, or stops training, see only the epochs that end at the target.

    As `tfsparse.AtTarget`, for callbacks of tf_keras and wrapped models. The model is at its target if every schedule
    has ended, or if as many weights are zero as at its end.

    Args:
        callback: A callback of tf_keras, for example `ModelCheckpoint`, `EarlyStopping`, `ReduceLROnPlateau` or one of
            your own.

    Attributes:
        callback: The same callback.

    Raises:
        TypeError: If `callback` is no callback of tf_keras.
        ValueError: If it has nothing to hold back, such as `History`, or must see every epoch, such as
            `BackupAndRestore` and `Prune`. Before the first step, if nothing prunes the model to a target, or if its
            schedule does not say where it ends.

    Examples:
        >>> stop = tf_keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
        >>> prune = tfsparse.tfmot.Prune(tfsparse.OneCycle(end=0.8), sparsity=0.9)
        >>> model.fit(x, y, validation_split=0.1, epochs=10, callbacks=[prune, tfsparse.tfmot.AtTarget(stop)])
    """

    _keras_callback = tf_keras.callbacks.Callback
    _stateless = (
        UpdatePruningStep,
        tf_keras.callbacks.BackupAndRestore,
        tf_keras.callbacks.CSVLogger,
        tf_keras.callbacks.History,
        tf_keras.callbacks.LearningRateScheduler,
        tf_keras.callbacks.ProgbarLogger,
        tf_keras.callbacks.RemoteMonitor,
        tf_keras.callbacks.TensorBoard,
        tf_keras.callbacks.TerminateOnNaN,
    )
    _expected = (
        "a callback of tf_keras, as in tfsparse.tfmot.AtTarget(tf_keras.callbacks.EarlyStopping()). For those of Keras "
        "3 write tfsparse.AtTarget(...)"
    )

    def __init__(self, callback: tf_keras.callbacks.Callback):
        super().__init__(callback)

    def _model_reached_target(self):
        return reached_target(self.model)
