"""Sparsity per layer, for TensorBoard and for eyes."""

import pathlib

import keras
import numpy as np
from keras import ops

from tfsparse.backend import extras
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.structured import multiply_adds


class SparsityLogger(keras.callbacks.Callback):
    """Writes target and actual sparsity of every pruned weight at each epoch's end; nothing that it did not count.

    The epoch's logs get `mask_change_rate`: the share of all mask entries that differ from the end of the epoch before, or, in the
    first epoch of this fit, from its beginning. Weights that went and came back in between do not count.

    Args:
        log_dir: directory for TensorBoard scalars `sparsity/<weight>`, `sparsity_target/<weight>`, `mask_change_rate/<weight>` and
            `effective_flops/<weight>`, those of `tfsparse.report`, where they are known; None: only the attribute
            `history`, a list with one `{weight path: actual sparsity}` per epoch, and `mask_change_rate`.

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
        actual = {path: float(np.mean(entries)) for path, entries in pruned.items()}
        changed = {path: entries != self._before.get(path, False) for path, entries in pruned.items()}
        self.history.append(actual)
        self._before = pruned
        if logs is not None:
            logs["mask_change_rate"] = float(np.mean(np.concatenate([entries.ravel() for entries in changed.values()])))
        if self.log_dir is not None:
            mask_change_rate = {path: float(np.mean(entries)) for path, entries in changed.items()}
            targets = _targets(compiled_model.sparse_optimizer(model))
            self._write(epoch, {"sparsity": actual, "mask_change_rate": mask_change_rate, "effective_flops": _flops(model)} | targets)

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, epoch, groups):
        import tensorflow as tf

        self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir))
        with self._writer.as_default(step=epoch):
            for group, values in groups.items():
                for path, value in values.items():
                    tf.summary.scalar(f"{group}/{path}", value)


def _pruned(model):
    """`{weight path: True where its mask is 0}`; an optimizer that has no masks yet has pruned nothing."""
    optimizer = compiled_model.sparse_optimizer(model)
    pairs = compiled_model.masks(model) if optimizer is None or optimizer.built else []
    return {v.path: ops.convert_to_numpy(mask) == 0 for v, mask in pairs}


def _flops(model):
    """Of all kernels, also of those without a mask."""
    masks = {id(kernel): ops.convert_to_numpy(mask) for kernel, mask in masked_layer.layer_masks(model)}
    uses = multiply_adds.uses_per_entry(model)
    counted = [v for v in model.trainable_variables if uses.get(id(v)) is not None]
    nonzero = [np.count_nonzero(ops.convert_to_numpy(v) * masks.get(id(v), 1)) for v in counted]
    return {v.path: 2 * entries * uses[id(v)] for v, entries in zip(counted, nonzero, strict=True)}


def _targets(optimizer):
    """None for thresholds, and none where one global threshold sets no target for a single weight."""
    if optimizer is None or optimizer.pruner.is_global:
        return {}
    counts = ops.convert_to_numpy(optimizer.target)
    pairs = zip(optimizer.pruned_variables, counts, strict=True)
    return {"sparsity_target": {v.path: float(count) / int(np.prod(v.shape)) for v, count in pairs}}
