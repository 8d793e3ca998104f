"""A callback that another one sees through: only the epochs that end at the target."""

import keras

from tfsparse.callbacks.at_target_core import AtTargetCore
from tfsparse.callbacks.sparsity_logger import SparsityLogger
from tfsparse.optimizers import compiled_model


class AtTarget(AtTargetCore, keras.callbacks.Callback):
    """Lets a callback that keeps the best epoch, or stops training, see only the epochs that end at the target.

        fit(..., callbacks=[Prune("one_cycle", sparsity=0.9), AtTarget(ModelCheckpoint("best.keras", ...))])

        epoch ends, model not at its target:   the callback is not called
        epoch ends, model at its target:       callback.on_epoch_end(epoch, logs)
        next epoch, with its batches:          the callback is called

    A network is most accurate before it is sparse. So `ModelCheckpoint(save_best_only=True)` and
    `EarlyStopping(restore_best_weights=True)` alone choose an epoch from before the target. Behind `AtTarget` they
    compare only epochs at the target; `patience` counts from the first of these, and `ReduceLROnPlateau` does not take
    the loss that pruning costs for a plateau.

    Whether the model is at its target is read from the model at the end of every epoch, so a resumed fit continues as
    the straight one would. The order of the callbacks does not matter. `on_train_begin` and `on_train_end` are always
    passed on. Batches are passed on in epochs that begin at the target. In the first epoch that only ends at it,
    `on_epoch_begin` is passed on right before `on_epoch_end`. Evaluations are passed on if they begin at the target.

    With the default `OneCycle()` only the last epoch is at the target, so there is no choice. `OneCycle(end=0.8)` gives
    the last fifth of training to choose from; `Prune(verbose=1)` says which epochs these are. `PruneGSM` and `DST` cut
    after the last step: there only the last epoch is at the target. `PLL` is at it when pruning has ended.

    Args:
        callback: A callback of Keras 3, for example `ModelCheckpoint`, `EarlyStopping`, `ReduceLROnPlateau`,
            `SwapEMAWeights` or one of your own.

    Attributes:
        callback: The same callback.

    Raises:
        TypeError: If `callback` is no callback of Keras 3.
        ValueError: If it has nothing to hold back, such as `History`, or must see every epoch, such as
            `BackupAndRestore` and `Prune`. Before the first step, if nothing prunes the model to a target.

    Examples:
        >>> best = keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True, monitor="val_accuracy")
        >>> prune = tfsparse.Prune(tfsparse.OneCycle(end=0.8), sparsity=0.9)
        >>> model.fit(x, y, validation_split=0.1, epochs=10, callbacks=[prune, tfsparse.AtTarget(best)])
    """

    _keras_callback = keras.callbacks.Callback
    _stateless = (
        SparsityLogger,
        keras.callbacks.BackupAndRestore,
        keras.callbacks.CSVLogger,
        keras.callbacks.History,
        keras.callbacks.LearningRateScheduler,
        keras.callbacks.ProgbarLogger,
        keras.callbacks.RemoteMonitor,
        keras.callbacks.TensorBoard,
        keras.callbacks.TerminateOnNaN,
    )
    _expected = (
        "a callback of Keras 3, as in tfsparse.AtTarget(keras.callbacks.EarlyStopping()). For those of tf_keras write "
        "tfsparse.tfmot.AtTarget(...)"
    )

    def __init__(self, callback: keras.callbacks.Callback):
        super().__init__(callback)

    def _model_reached_target(self):
        return compiled_model.reached_target(self.model)
