"""GSM from one argument."""

import keras
from keras import ops

from tfsparse import distribute, wrapping
from tfsparse.optimizers import gsm
from tfsparse.pruners import Magnitude
from tfsparse.schedules import OneShot


class PruneGSM(keras.callbacks.Callback):
    """Train with GSM and cut at the end: `model.fit(..., callbacks=[PruneGSM(compression=60, data=(x_val, y_val))])`.

        all of this fit:       GSM(learning_rate of the compiled SGD, momentum, weight_decay, compression, nesterov)
        after the last step:   weight = weight * (|weight| is among the largest 1 / compression of all kernels)

    The cut comes before the last epoch's validation and checkpoints, so these see the sparse model. With `data` the
    last epoch's logs also have every metric twice, `uncut_accuracy` and `cut_accuracy`: whether the cut was lossless is
    measured, not assumed. Warns before the first step if passive weights will not have decayed by then. A further
    `fit` keeps the masks.

    Args:
        compression: entries over entries kept, >= 1. None: that of the `tfsparse.GSM` the model is compiled with.
        momentum, weight_decay, nesterov: as for `tfsparse.GSM`; where the model is compiled with one, that one's hold.
        data: what the cut is measured on, `(x, y)` or a dataset; None: it is not measured.

    Raises: ValueError before the first step for a model that is compiled with neither SGD nor GSM, for two different
        compressions, and for a dataset of unknown length.

    Source: Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    >>> model.compile("sgd", loss="mse")
    >>> model.fit(x, y, epochs=100, callbacks=[tfsparse.PruneGSM(compression=10, data=(x, y))])
    """

    async_safe = True

    def __init__(self, compression=None, momentum=0.98, weight_decay=1e-4, nesterov=False, data=None):
        super().__init__()
        self.compression, self.data = compression, data
        self._options = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        gsm.check_options(momentum, weight_decay, 1 if compression is None else compression)

    def set_model(self, model):
        super().set_model(model)
        wrapping.check_ready(model)
        current = wrapping.sparse_optimizer(model)
        with distribute.strategy_scope(model):
            optimizer = self._gsm(model.optimizer if current is None else current.inner_optimizer)
        if current is None:
            wrapping.replace_optimizer(model, optimizer)
            wrapping.sparsify(model, OneShot(at=1.0), 1 - 1 / optimizer.compression, Magnitude(scope="global"))

    def set_params(self, params):
        super().set_params(params)
        if params.get("steps") is None:
            raise ValueError(
                "The dataset's length is unknown, so nobody knows which step is the last. Write fit(..., "
                "steps_per_epoch=...)."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if getattr(self, "_resolved_for", None) is not self.params:
            self._resolved_for, self._uncut = self.params, None  # once per fit, and only here is the first epoch known
            self._resolve(epoch)
        self._is_last_epoch = epoch == self.params["epochs"] - 1

    def on_train_batch_end(self, batch, logs=None):
        if self._is_last_epoch and batch == self.params["steps"] - 1:
            self._cut()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["sparsity"] = self._optimizer.current_sparsity()
            logs.update(self._measured() if self._uncut else {})

    def on_train_end(self, logs=None):
        if self._uncut is None:  # stopped early
            self._cut()

    @property
    def _optimizer(self):
        return wrapping.sparse_optimizer(self.model)

    def _gsm(self, compiled):
        if isinstance(compiled, gsm.GSM) and self.compression in (None, compiled.compression):
            return compiled
        if type(compiled) is keras.optimizers.SGD and self.compression is not None:
            rate = compiled.get_config()["learning_rate"]
            return gsm.GSM.from_config({"learning_rate": rate, "compression": self.compression, **self._options})
        raise ValueError(
            f"PruneGSM(compression={self.compression!r}) got a model compiled with {_described(compiled)}: expected "
            "SGD and a compression, model.compile('sgd', ...) with PruneGSM(compression=10), or tfsparse.GSM and none, "
            "model.compile(tfsparse.GSM(compression=10), ...) with PruneGSM()."
        )

    def _resolve(self, first_epoch):
        """Lay the schedule over one step more than this fit: the cut is made here, where its cost can be measured."""
        optimizer, steps = self._optimizer, (self.params["epochs"] - first_epoch) * self.params["steps"]
        optimizer.set_total_steps(optimizer.steps_done + steps + 1)
        inner = optimizer.inner_optimizer
        gsm.warn_if_short(inner.decay_exponent(steps), inner.momentum, inner.compression)

    def _cut(self):
        optimizer = self._optimizer
        self._uncut = [ops.convert_to_numpy(v) for v in optimizer.pruned_variables]
        optimizer.prune_now()

    def _measured(self):
        """Every metric after the cut and before it; the uncut weights are put back for as long as that takes."""
        if self.data is None:
            return {}
        after = self._evaluate()
        try:
            for variable, value in zip(self._optimizer.pruned_variables, self._uncut, strict=True):
                variable.assign(value)
            before = self._evaluate()
        finally:
            self._optimizer.apply_masks()
        return {f"uncut_{k}": v for k, v in before.items()} | {f"cut_{k}": v for k, v in after.items()}

    def _evaluate(self):
        data = self.data if isinstance(self.data, tuple) else (self.data,)
        return self.model.evaluate(*data, verbose=0, return_dict=True)


def _described(optimizer) -> str:
    compression = getattr(optimizer, "compression", None)
    return type(optimizer).__name__ + (f"(compression={compression})" if compression else "")
