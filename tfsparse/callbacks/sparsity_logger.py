"""Sparsity of each weight after every epoch."""

import pathlib

import keras
import numpy as np
from keras import ops

from tfsparse.backend import extras, keras_internals
from tfsparse.backend.weight_names import weight_names
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.structured import multiply_adds


class SparsityLogger(keras.callbacks.Callback):
    """Log target and actual sparsity of every pruned weight at the end of each epoch.

        logs["mask_change_rate"] = mask entries that differ from the end of the epoch before / all mask entries

    In the first epoch of a `fit`, masks are compared with those at its start. Weights that were pruned and grown again
    within one epoch do not count.

    Args:
        log_dir: Directory for TensorBoard. It gets the scalars `sparsity/<name>`, `sparsity_target/<name>`,
            `mask_change_rate/<name>` and, where they are known, `effective_flops/<name>` as in `tfsparse.report`.
            With one global threshold no weight has a target of its own. Default: None, no files.

    Attributes:
        history: List with one `{name of the weight: sparsity}` per epoch. The name is the path of the variable; if
            several have one path, it is numbered, as in `tfsparse.report`.

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
            self._write(epoch, scalars | {"sparsity_target": _targets(model)})

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
    """Return `{name: True where the mask is 0}`; empty before the optimizer has masks."""
    names = weight_names(model)
    return {names[id(v)]: ops.convert_to_numpy(mask) == 0 for v, mask in compiled_model.masks(model)}


def _flops(model):
    """Return `{name: FLOPs without multiplications by zero}` for all kernels, with or without a mask."""
    masks = {id(kernel): ops.convert_to_numpy(mask) for kernel, mask in masked_layer.layer_masks(model)}
    uses, names = multiply_adds.uses_per_entry(model), weight_names(model)
    kernels = [v for v in keras_internals.trained_weights(model) if uses.get(id(v)) is not None]
    nonzero = [np.count_nonzero(ops.convert_to_numpy(v) * masks.get(id(v), 1)) for v in kernels]
    return {names[id(v)]: 2 * entries * uses[id(v)] for v, entries in zip(kernels, nonzero, strict=True)}


def _targets(model):
    """Return `{name: target}`; empty if one threshold is that of all weights."""
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or not optimizer.built or optimizer.pruner.is_global:
        return {}
    names, counts = weight_names(model), optimizer.mask_state.target_counts()
    pairs = zip(optimizer.pruned_variables, counts, strict=True)
    return {names[id(v)]: float(count) / int(np.prod(v.shape)) for v, count in pairs}
