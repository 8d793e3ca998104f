"""The callback of ToST."""

import keras

from tfsparse import schedules
from tfsparse.methods.tost.activation import SmoothReLU
from tfsparse.methods.tost.ghost_skip import GhostSkip
from tfsparse.optimizers import masked_layer


class ToST(keras.callbacks.Callback):
    """Bring activations from Swish to ReLU during a fit, and fade out connections around layers.

        at most `updates` times in a fit:   smoothness = share = 1 - schedule(t)

    The model is one of `tfsparse.tost`, of `tfsparse.ghost_skips`, or of both. The smoothness is a variable of each
    `SmoothReLU`, the share one of each `GhostSkip`. They depend on the step alone: a resumed fit equals the straight
    fit. With `steps_per_execution` they change only between calls of the compiled step. The logs of every epoch have
    `smoothness`. A further `fit` with this callback starts from Swish again.

    Args:
        schedule: The way to ReLU: a schedule of `tfsparse.schedules` that ends at 1, its name or its config. Default:
            None, `Linear(start=0.0, end=0.75)`: the last quarter of training is with ReLU.
        updates: How often the smoothness is set in a fit, at most. Default: 400.

    Raises:
        ValueError: If the schedule does not end at 1, or `updates` is not a positive integer. Before the first step, if
            the model has neither a `SmoothReLU` nor a `GhostSkip`, or the dataset is of unknown length.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022). The paper returns to
        ReLU, its code does not, and the paper's schedule is not known to us: this one is ours.

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.98, "rigl"), tfsparse.ToST()])
    """

    def __init__(self, schedule=None, updates: int = 400):
        super().__init__()
        self.schedule = schedules.get(schedule or schedules.Linear(start=0.0, end=0.75))
        if self.schedule(1.0) != 1:
            raise ValueError(
                f"schedule={self.schedule!r} ends at {self.schedule(1.0):g}, so activations would not be ReLU in the "
                "end: expected one that ends at 1, for example tfsparse.Linear(end=0.75)."
            )
        if not isinstance(updates, int) or updates < 1:
            raise ValueError(f"updates={updates!r}: expected how often the smoothness is set, for example updates=400.")
        self.updates = updates

    def on_train_begin(self, logs=None):
        if self.params.get("steps") is None:
            raise ValueError(
                "The dataset's length is unknown, so ToST does not know how many steps training has. Write fit(..., "
                "steps_per_epoch=...)."
            )
        if not self._variables():
            raise ValueError(
                f"No activation of {self.model.name!r} is a SmoothReLU, and it has no GhostSkip: write "
                "model = tfsparse.tost(model) and compile it before fit."
            )
        self._total = self.params["epochs"] * self.params["steps"]
        self._period = max(self._total // self.updates, 1)

    def on_epoch_begin(self, epoch, logs=None):
        self._step = self._first_step = epoch * self.params["steps"]
        self._set_smoothness()

    def on_train_batch_end(self, batch, logs=None):
        before, self._step = self._step, self._first_step + batch + 1
        if self._step // self._period > before // self._period:
            self._set_smoothness()

    def on_epoch_end(self, epoch, logs=None):
        self._set_smoothness()
        if logs is not None:
            logs["smoothness"] = self._smoothness()

    def _smoothness(self):
        return 1 - self.schedule(self._step / self._total)

    def _set_smoothness(self):
        value = self._smoothness()
        for variable in self._variables():
            variable.assign(value)

    def _variables(self):
        activations = masked_layer.training_activations(self.model)
        connections = masked_layer.training_connections(self.model)
        smoothness = [a.smoothness for a in activations if isinstance(a, SmoothReLU)]
        return smoothness + [c.share for c in connections if isinstance(c, GhostSkip)]
