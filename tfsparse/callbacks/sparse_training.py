"""What the callbacks of Keras 3 that put a `SparseOptimizer` into the model have in common."""

import warnings

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.variables import zero_fraction
from tfsparse.callbacks.fit_hooks import check_only_callback, warn_of_written_weights
from tfsparse.optimizers import compiled_model


class SparseTraining:
    """Mixed into a callback of Keras 3, before `FitHooks`. The callback exchanges the optimizer in `set_model`.

    fit:                          refused if another callback prunes the model in it too
    evaluation without training:  the model gets back the optimizer that it had
    after the first batches:      an error if the optimizer has made no step; a warning names what it never trains
    after all callbacks:          weights that one of them has written are pruned again, with a warning
    """

    _optimizer_before = _applied = None

    @property
    def _optimizer(self):
        return compiled_model.sparse_optimizer(self.model)

    def set_model(self, model):
        self._optimizer_before = getattr(model, "optimizer", None)
        super().set_model(model)

    def on_test_begin(self, logs=None):
        super().on_test_begin(logs)
        self._give_back()

    def on_predict_begin(self, logs=None):
        super().on_predict_begin(logs)
        self._give_back()

    def _give_back(self):
        if self._optimizer_before is not None:
            compiled_model.replace_optimizer(self.model, self._optimizer_before)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._optimizer_before = self._applied = None
        advice = "Prune(sparsities={'encoder': 0.8, 'head': 0.5}) has a target for each layer."
        check_only_callback(self, self._optimizer, advice)

    def _begin_fit(self, first_epoch, num_steps):
        per_call = keras_internals.steps_per_execution(self.model)
        self._applied = _AppliedSteps(self._num_steps, self._batches_per_step(), per_call, self.params.get("steps"))
        super()._begin_fit(first_epoch, num_steps)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        self._applied.begin_call(batch)
        self._check_applied()

    def on_epoch_end(self, epoch, logs=None):
        self._applied.end_epoch()
        self._check_applied()
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        self._prune_written_weights()
        if self._applied and self._applied.num_skipped() and not self._applied.num_made():
            warnings.warn(
                f"Nothing was trained or pruned: float16 loss scaling skipped all {self._applied.num_skipped()} steps, "
                "because gradients were not finite. It halves the scale each time: train longer.",
                stacklevel=2,
            )
        super().on_train_end(logs)
        keras_internals.after_train_end(self, self._prune_written_weights)

    def _num_steps(self):
        return backend_ops.to_int(self._optimizer.iterations)

    def _num_skipped(self):
        return self._applied.num_skipped() if self._applied else 0

    def _check_applied(self):
        if not self._applied.is_check_due():
            return
        if not self._applied.num_made() and self.model.optimizer is self._optimizer:
            raise ValueError(
                f"{self.model.optimizer.name!r}, the optimizer of the model, has made no step until batch "
                f"{self._applied.num_batches}: train_step of {type(self.model).__name__} trains with another one, "
                f"whose weights {type(self).__name__} cannot prune. Write self.optimizer.apply(gradients, variables) "
                "there, or wrap that optimizer: SparseOptimizer(optimizer, ..., total_steps=10_000)."
            )
        self._warn_of_dense_weights()

    def _warn_of_dense_weights(self):
        untrained = [v.path for v in self._optimizer.untrained_variables]
        if untrained:
            warnings.warn(
                f"The optimizer never gets a gradient of {', '.join(untrained)}: they stay dense, and the target is "
                "that of the other weights. Freeze them before compile if they are not to be trained.",
                stacklevel=2,
            )

    def _prune_written_weights(self):
        optimizer = self._optimizer
        if not optimizer.built:
            return
        state = optimizer.mask_state
        if sum(state.num_broken()):
            before = zero_fraction(state.weights)
            optimizer.prune_written_weights()
            if before < optimizer.current_sparsity():
                warn_of_written_weights(before, optimizer.current_sparsity())
        elif state.storage.has_external_writes():
            optimizer.prune_written_weights()


class _AppliedSteps:
    """Compares the batches of a `fit` with the steps of its optimizer.

    Args:
        read_steps: Returns the steps that the optimizer has made.
        batches_per_step: Batches whose gradients are accumulated before each step.
        batches_per_call: Batches in one call of the compiled step.
        batches_per_epoch: Batches of an epoch; None if unknown.
    """

    def __init__(self, read_steps, batches_per_step, batches_per_call, batches_per_epoch):
        self._read_steps, self._first = read_steps, read_steps()
        self._per_step, self._per_call, self._per_epoch = batches_per_step, batches_per_call, batches_per_epoch
        self._batch, self._in_epochs, self.num_batches, self._is_checked = 0, 0, 0, False

    def begin_call(self, batch):
        """Note the first batch of a call of the compiled step, counted in its epoch."""
        self._batch, self.num_batches = batch, self._in_epochs + batch

    def end_epoch(self):
        """Note the end of an epoch, after its last call."""
        in_epoch = self._batch + self._per_call
        self._in_epochs += min(in_epoch, self._per_epoch or in_epoch)
        self.num_batches = self._in_epochs

    def is_check_due(self) -> bool:
        """Return True once, when there were enough batches for a step."""
        if self._is_checked or self.num_batches < self._per_step:
            return False
        self._is_checked = True
        return True

    def num_made(self) -> int:
        return self._read_steps() - self._first

    def num_skipped(self) -> int:
        """Return the steps that the batches until now should have made and did not."""
        return max(self.num_batches // self._per_step - self.num_made(), 0)
