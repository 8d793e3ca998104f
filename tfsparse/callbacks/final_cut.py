"""A cut right after the last training step, and what it costs; for the callbacks of both roads."""

import abc

from tfsparse.backend import ops as backend_ops


class FinalCut(abc.ABC):
    """Mixed into a callback of Keras 3 or tf_keras: one cut after the last step of a `fit`, before its validation.

        after the last step:            values = weights; cut
        in the last epoch's logs:       cut_<metric> of the model as it is, uncut_<metric> with `values` put back

    data: what is measured on, as a tuple of arguments of `evaluate` or as a dataset; None: nothing is.
    """

    def __init__(self, data=None):
        super().__init__()
        self.data = data

    @abc.abstractmethod
    def _prepare(self, steps: int) -> None:
        """Called once before the first of the `steps` steps of a fit."""

    @abc.abstractmethod
    def _cut(self) -> None:
        """Prune."""

    @abc.abstractmethod
    def _apply_masks(self) -> None:
        """Zero again what is pruned."""

    @abc.abstractmethod
    def _pruned_variables(self) -> list:
        """What the cut changes."""

    def set_params(self, params):
        super().set_params(params)
        if params.get("steps") is None:
            raise ValueError(
                "The dataset's length is unknown, so nobody knows which step is the last. Write fit(..., "
                "steps_per_epoch=...)."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if getattr(self, "_prepared_for", None) is not self.params:
            self._prepared_for, self._uncut = self.params, None  # once per fit: only here is the first epoch known
            self._prepare((self.params["epochs"] - epoch) * self.params["steps"])
        self._is_last_epoch = epoch == self.params["epochs"] - 1

    def on_train_batch_end(self, batch, logs=None):
        if self._is_last_epoch and batch == self.params["steps"] - 1:
            self._cut_now()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._uncut and self.data is not None:
            logs.update(self._measured())

    def on_train_end(self, logs=None):
        if not self._uncut:  # stopped early
            self._cut_now()

    def _cut_now(self):
        self._uncut = [backend_ops.array(v).copy() for v in self._pruned_variables()]
        self._cut()

    def _measured(self):
        after = self._evaluate()
        try:
            for variable, value in zip(self._pruned_variables(), self._uncut, strict=True):
                variable.assign(value)
            before = self._evaluate()
        finally:
            self._apply_masks()
        return {f"uncut_{k}": v for k, v in before.items()} | {f"cut_{k}": v for k, v in after.items()}

    def _evaluate(self):
        data = self.data if isinstance(self.data, tuple) else (self.data,)
        return self.model.evaluate(*data, verbose=0, return_dict=True)
