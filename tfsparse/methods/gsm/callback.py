"""GSM for Keras 3 models, from one argument."""

import keras

from tfsparse.backend import replicas
from tfsparse.callbacks.sparse_training import SparseTraining
from tfsparse.methods.gsm import rule
from tfsparse.methods.gsm.cut import GSMCut
from tfsparse.methods.gsm.optimizer import GSM
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Magnitude
from tfsparse.schedules import OneShot


class PruneGSM(SparseTraining, GSMCut, keras.callbacks.Callback):
    """Trains with GSM and cuts at the end: `model.fit(..., callbacks=[PruneGSM(compression=60, data=(x_val, y_val))])`.

        all of this fit:       GSM(learning_rate of the compiled SGD, momentum, weight_decay, compression, nesterov)
        after the last step:   weight = weight * (|weight| is among the largest 1 / compression of all kernels)

    The cut comes before the last epoch's validation and checkpoints, so these see the sparse model. With `data` the
    last epoch's logs have every metric twice, `uncut_accuracy` and `cut_accuracy`, so what the cut costs is measured. A
    further `fit` keeps the masks. A warning before the first step says if passive weights will not have decayed.

    Args:
        compression: Entries over entries kept, >= 1. Default: None, that of the `tfsparse.GSM` in the compiled model.
        momentum: In [0, 1). A `tfsparse.GSM` in the compiled model keeps its own. Default: 0.98.
        weight_decay: Coupled decay of kernels, > 0. A `tfsparse.GSM` in the compiled model keeps its own. Default:
            1e-4.
        nesterov: Whether momentum is Nesterov's. A `tfsparse.GSM` in the compiled model keeps its own. Default: False.
        data: What the cut is measured on: `(x, y)` or a dataset. Default: None, which measures nothing.

    Raises:
        ValueError: Before the first step, if the model is compiled with neither SGD nor GSM, if two compressions
            differ, or if the dataset's length is unknown.

    Source:
        Ding et al., "Global Sparse Momentum SGD for Pruning Very Deep Neural Networks" (NeurIPS 2019).

    Examples:
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=100, callbacks=[tfsparse.PruneGSM(compression=10, data=(x, y))])
    """

    def __init__(self, compression=None, *, momentum=0.98, weight_decay=1e-4, nesterov=False, data=None):
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
            sparsity = 1 - 1 / optimizer.compression
            compiled_model.sparsify(model, OneShot(start=1.0), sparsity, Magnitude(scope="global"))

    def reached_target(self) -> bool:
        """Return whether the weights are cut."""
        return compiled_model.reached_target(self.model)

    @property
    def _masked_weights(self):
        return self._optimizer.mask_state

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

    def _begin_fit(self, first_epoch, num_steps):
        super()._begin_fit(first_epoch, num_steps)
        optimizer = self._optimizer
        optimizer.set_total_steps(optimizer.steps_done + num_steps + 1)  # after this fit: `_cut` comes before
        optimizer.inner_optimizer.check_training_length(num_steps)

    def _cut(self):
        self._optimizer.prune_now()
        self._optimizer.check_replicas()

    def _restore_cut(self):
        self._optimizer.apply_masks()


def _described(optimizer) -> str:
    compression = getattr(optimizer, "compression", None)
    return type(optimizer).__name__ + (f"(compression={compression})" if compression else "")
