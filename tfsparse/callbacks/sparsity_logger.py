"""Sparsity per layer, for TensorBoard and for eyes."""

import pathlib

import keras
import numpy as np
from keras import ops

from tfsparse import wrapping


class SparsityLogger(keras.callbacks.Callback):
    """Writes target and actual sparsity of every pruned weight at each epoch's end; nothing that it did not count.

    Args:
        log_dir: directory for TensorBoard scalars `sparsity/<weight>` and `sparsity_target/<weight>`; None: only the
            attribute `history`, a list with one `{weight path: actual sparsity}` per epoch.

    >>> model.fit(x, y, callbacks=[tfsparse.Prune(sparsity=0.9), tfsparse.SparsityLogger("logs")])
    """

    def __init__(self, log_dir: str | pathlib.Path | None = None):
        super().__init__()
        self.log_dir, self.history, self._writer = log_dir, [], None

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        pairs = wrapping.masks(model)
        if not pairs:
            return
        actual = {v.path: float(np.mean(ops.convert_to_numpy(m) == 0)) for v, m in pairs}
        self.history.append(actual)
        if self.log_dir is not None:
            self._write(epoch, {"sparsity": actual} | _targets(wrapping.sparse_optimizer(model)))

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


def _targets(optimizer):
    """None for thresholds, and none where one global threshold sets no target for a single weight."""
    if optimizer is None or optimizer.pruner.jointly:
        return {}
    counts = ops.convert_to_numpy(optimizer.target)
    pairs = zip(optimizer.pruned_variables, counts, strict=True)
    return {"sparsity_target": {v.path: float(count) / int(np.prod(v.shape)) for v, count in pairs}}
