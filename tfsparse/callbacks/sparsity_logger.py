"""Sparsity of each weight after every epoch."""

import pathlib

import keras
import numpy as np
from keras import ops

from tfsparse.backend import extras
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.structured import multiply_adds


class SparsityLogger(keras.callbacks.Callback):
    """Log target and actual sparsity of every pruned weight at the end of each epoch.

        logs["mask_change_rate"] = mask entries that differ from the end of the epoch before / all mask entries

    In the first epoch of a `fit`, masks are compared with those at its start. Weights that were pruned and grown again
    within one epoch do not count.

    Args:
        log_dir: Directory for TensorBoard. It gets the scalars `sparsity/<weight>`, `sparsity_target/<weight>`,
            `mask_change_rate/<weight>` and, where they are known, `effective_flops/<weight>` as in `tfsparse.report`.
            With one global threshold no weight has a target of its own. Default: None, no files.

    Attributes:
        history: List with one `{path of the weight: sparsity}` per epoch.

    Raises:
        ImportError: If `log_dir` is given and the package tensorboard is not installed.

    Examples:
        >>> model.fit(x, y, callbacks=[tfsparse.Prune(sparsity=0.9), tfsparse.SparsityLogger("logs")])
    """

    def __init__(self, log_dir: str | pathlib.Path | None = None):
        super().__init__()
        self.log_dir, self.history, self._writer = log_dir, [], None
        if log_dir is not None:
            extras.require("tensorboard", "tensorboard")  # tf.summary.scalar imports it

    def on_train_begin(self, logs=None):
        self._before = _pruned(self.model)

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        pruned = _pruned(model)
        if not pruned:
            return
        changed = {path: entries != self._before.get(path, False) for path, entries in pruned.items()}
        sparsity, change_rate = ({k: float(np.mean(v)) for k, v in entries.items()} for entries in (pruned, changed))
        self.history.append(sparsity)
        self._before = pruned
        if logs is not None:
            logs["mask_change_rate"] = float(np.mean(np.concatenate([entries.ravel() for entries in changed.values()])))
        if self.log_dir is not None:
            scalars = {"sparsity": sparsity, "mask_change_rate": change_rate, "effective_flops": _flops(model)}
            self._write(epoch, scalars | {"sparsity_target": _targets(compiled_model.sparse_optimizer(model))})

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, epoch, scalars):
        import tensorflow as tf

        self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir))
        with self._writer.as_default(step=epoch):
            for name, values in scalars.items():
                for path, value in values.items():
                    tf.summary.scalar(f"{name}/{path}", value)


def _pruned(model):
    """Return `{path: True where the mask is 0}`; empty before the optimizer has masks."""
    optimizer = compiled_model.sparse_optimizer(model)
    pairs = compiled_model.masks(model) if optimizer is None or optimizer.built else []
    return {v.path: ops.convert_to_numpy(mask) == 0 for v, mask in pairs}


def _flops(model):
    """Return `{path: FLOPs without multiplications by zero}` for all kernels, with or without a mask."""
    masks = {id(kernel): ops.convert_to_numpy(mask) for kernel, mask in masked_layer.layer_masks(model)}
    uses = multiply_adds.uses_per_entry(model)
    kernels = [v for v in model.trainable_variables if uses.get(id(v)) is not None]
    nonzero = [np.count_nonzero(ops.convert_to_numpy(v) * masks.get(id(v), 1)) for v in kernels]
    return {v.path: 2 * entries * uses[id(v)] for v, entries in zip(kernels, nonzero, strict=True)}


def _targets(optimizer):
    if optimizer is None or optimizer.pruner.is_global:
        return {}
    counts = ops.convert_to_numpy(optimizer.target)
    pairs = zip(optimizer.pruned_variables, counts, strict=True)
    return {v.path: float(count) / int(np.prod(v.shape)) for v, count in pairs}
