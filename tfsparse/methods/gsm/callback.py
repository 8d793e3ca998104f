"""GSM from one argument."""

import keras

from tfsparse.backend import replicas
from tfsparse.callbacks.final_cut import FinalCut
from tfsparse.methods.gsm import rule
from tfsparse.methods.gsm.optimizer import GSM
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Magnitude
from tfsparse.schedules import OneShot


class PruneGSM(FinalCut, keras.callbacks.Callback):
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

    def __init__(self, compression=None, momentum=0.98, weight_decay=1e-4, nesterov=False, data=None):
        super().__init__(data)
        self.compression = compression
        self._options = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        rule.check_options(momentum, weight_decay, 1 if compression is None else compression)

    def set_model(self, model):
        super().set_model(model)
        compiled_model.check_ready(model)
        current = compiled_model.sparse_optimizer(model)
        with replicas.strategy_scope(model):
            optimizer = self._gsm(model.optimizer if current is None else current.inner_optimizer)
        if current is None:
            compiled_model.replace_optimizer(model, optimizer)
            compiled_model.sparsify(model, OneShot(start=1.0), 1 - 1 / optimizer.compression, Magnitude(scope="global"))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            logs["sparsity"] = self._optimizer.current_sparsity()

    @property
    def _optimizer(self):
        return compiled_model.sparse_optimizer(self.model)

    def _gsm(self, compiled):
        if isinstance(compiled, GSM) and self.compression in (None, compiled.compression):
            return compiled
        if type(compiled) is keras.optimizers.SGD and self.compression is not None:
            rate = compiled.get_config()["learning_rate"]
            return GSM.from_config({"learning_rate": rate, "compression": self.compression, **self._options})
        raise ValueError(
            f"PruneGSM(compression={self.compression!r}) got a model compiled with {_described(compiled)}: expected "
            "SGD and a compression, model.compile('sgd', ...) with PruneGSM(compression=10), or tfsparse.GSM and none, "
            "model.compile(tfsparse.GSM(compression=10), ...) with PruneGSM()."
        )

    def _prepare(self, steps):
        optimizer = self._optimizer
        optimizer.set_total_steps(optimizer.steps_done + steps + 1)  # not within this fit: `_cut` comes before
        optimizer.inner_optimizer.check_training_length(steps)

    def _cut(self):
        self._optimizer.prune_now()
        self._optimizer.check_replicas()

    def _apply_masks(self):
        self._optimizer.apply_masks()

    def _pruned_variables(self):
        return self._optimizer.pruned_variables


def _described(optimizer) -> str:
    compression = getattr(optimizer, "compression", None)
    return type(optimizer).__name__ + (f"(compression={compression})" if compression else "")
