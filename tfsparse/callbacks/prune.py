"""The callback that makes `fit` train a sparse model."""

import warnings

import keras
import numpy as np
from keras import ops

from tfsparse import pruners
from tfsparse.callbacks import level_search
from tfsparse.callbacks.fit_hooks import check_reaches_end
from tfsparse.callbacks.prune_core import PruneCore, Unfinished, last_due
from tfsparse.callbacks.sparse_training import SparseTraining
from tfsparse.optimizers import addons as all_addons
from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.validation import ChecksTrainingLength, check_total_steps
from tfsparse.pruners import selection
from tfsparse.schedules import auto


class Prune(SparseTraining, PruneCore, keras.callbacks.Callback):
    """Trains a model sparse: `model.fit(..., callbacks=[Prune("one_cycle", sparsity=0.9)])`.

        before the first step:   model.optimizer = SparseOptimizer(model.optimizer, schedule, sparsity, pruner)
        after every epoch:       logs["sparsity"] = zeros in the masks / entries of the pruned weights
                                 logs["at_target"] = 1 if the schedule has ended or as many are zero as then, else 0

    The callback has no state of its own. `SparseOptimizer` does the work and is saved with the model, so files,
    `BackupAndRestore` and a second `fit` continue with the same masks.

    Weights with NaN or infinity are an error. With `keras.callbacks.TerminateOnNaN` in the list, training stops without
    one; nothing is cut then. What another callback writes to the weights, as `EarlyStopping(restore_best_weights=True)`
    does, is pruned to the same number of zeros with a warning, in any order of the callbacks. `CSVLogger` gets the
    column `sparsity` if it comes after this callback. It writes its header once: with `append=True` start a new file
    when this callback joins.

    A schedule that has begun ends at the step that was set for it, also when a later `fit` resumes it. After its end, a
    further `fit` with an equal `Prune` trains on at the target. With another target, pruner or schedule, or other
    add-ons, it starts a new schedule from the present masks. All this also holds if the model was compiled anew in
    between, to unfreeze layers or for another learning rate; then the zeros of the weights are the masks.

    Args:
        schedule: When masks are updated: a schedule, its name or its config, see `tfsparse.schedules`. Default:
            "one_cycle".
        sparsity: Target in [0, 1): of all kernels together, or with `scope="layer"` of each of them. "auto": the
            highest at which validation holds, see `tfsparse.Auto`; then leave the schedule out. Default: 0.5.
        pruner: Which weights are pruned: a pruner, its name or its config, see `tfsparse.pruners`. Default:
            "magnitude".
        total_steps: Length of the schedule in optimizer steps, at least 2. Set it when one schedule spans several calls
            of `fit`. Default: None, which is all steps of this `fit`.
        addons: What changes the steps of the inner optimizer for pruned weights: a list of add-ons, their names or
            configs, see `tfsparse.optimizers.addons`. Default: (), none.
        sparsities: `{layer: sparsity}`, or pairs of a layer or variable and its sparsity: targets of their own. A
            layer may be given by its name. A pair `(least, largest)` in place of a sparsity bounds a weight that
            competes for the common target.
        exclude: Layers, their names, or variables to leave dense; one of them or several.
        skip_first: Whether to leave the first kernel of the model dense. Default: False.
        skip_last: Whether to leave the last kernel of the model dense. Default: False.
        min_sparsity: Least sparsity of each weight that competes for the common target, in [0, 1). Default: 0.0.
        max_sparsity: Largest sparsity of each of these, in (0, 1]. Default: 1.0, which leaves it to the rule that a
            weight keeps at least a tenth of what it would keep if all had the same sparsity.
        drop: With `sparsity="auto"`, the largest loss of validation accuracy, >= 0: 0.005 is half a point. Default:
            None, which is that of `Auto`, 0.005.
        validation: With `sparsity="auto"`, arrays `(x, y)` or a dataset to evaluate after every epoch. Default: None,
            the validation data of `fit`.
        on_divergence: What to do if the masks of replicas differ: "raise", or "repair" them from the first replica.
            They are compared before every mask update and at the end of every epoch. Default: "raise".
        verbose: 1: print one line before the first epoch, which says which epochs end at the target. 0: print nothing.
            Default: 0, as in the callbacks of Keras.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: Before the first step, if the target cannot be reached: the model is not compiled, the dataset's
            length is unknown, training has fewer than 2 steps, the schedule would end after this `fit`, or another
            callback prunes the model too. After the first batches, if `model.optimizer` has made no step. After the
            first epoch, if `sparsity="auto"` has no validation data.

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("one_cycle", sparsity=0.9)])
        >>> model.fit(x, y, validation_split=0.1, epochs=10, callbacks=[tfsparse.Prune(sparsity="auto", drop=0.005)])
    """

    def __init__(
        self,
        schedule="one_cycle",
        sparsity: float | str = 0.5,
        pruner="magnitude",
        *,
        total_steps: int | None = None,
        addons=(),
        sparsities=(),
        exclude=(),
        skip_first: bool = False,
        skip_last: bool = False,
        min_sparsity: float = 0.0,
        max_sparsity: float = 1.0,
        drop: float | None = None,
        validation=None,
        on_divergence: str = "raise",
        verbose: int = 0,
    ):
        super().__init__(check_total_steps(total_steps), on_divergence, verbose)
        self.schedule, sparsity = auto.for_prune(schedule, sparsity, drop)
        self.pruner, self.sparsity = pruners.get(pruner), selection.check_sparsity(sparsity)
        self.addons = all_addons.get_all(addons)
        self._target_rule = level_search.for_prune(self.schedule, validation)
        self.schedule.check_target(self.sparsity, self.pruner)
        self.choice = selection.Choice(sparsities, exclude, skip_first, skip_last, min_sparsity, max_sparsity)

    def set_model(self, model):
        super().set_model(model)
        compiled_model.check_compiled(model)
        current = compiled_model.sparse_optimizer(model)
        if current is not None and not current.built and model.built:
            current.build(compiled_model.check_trainable(model))
        if current is None or self._needs_new_schedule(current):
            compiled_model.wrap_optimizer(
                model, self.schedule, self.sparsity, self.pruner, self.choice, self.total_steps, self.addons
            )
        self._target_rule.prepare(model)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._target_rule.end_epoch(self.model, {} if logs is None else logs, self.verbose)

    def on_train_end(self, logs=None):
        if self.total_steps is None and self._optimizer.built and self._optimizer.steps_done:
            self._target_rule.end_training(self.model)
        super().on_train_end(logs)

    @property
    def _masked_weights(self):
        return [self._optimizer.mask_state] if self._optimizer.built else []

    @property
    def sync_stats(self):
        return self._optimizer.sync_stats

    def _batches_per_step(self):
        return self._optimizer.gradient_accumulation_steps or 1

    def _set_schedule(self, first_epoch, num_steps):
        optimizer = self._optimizer
        optimizer.set_total_steps(self.total_steps or optimizer.total_steps or num_steps)
        if num_steps:
            self._target_rule.check_length(optimizer.total_steps / num_steps * (self.params["epochs"] - first_epoch))
        if self.total_steps is not None:
            return
        check_reaches_end("Prune", optimizer.steps_done, num_steps, optimizer.total_steps, optimizer.sparsity)
        if isinstance(optimizer.inner_optimizer, ChecksTrainingLength):
            optimizer.inner_optimizer.check_training_length(num_steps)

    def reached_target(self) -> bool:
        """Return whether the schedule has ended, or the masks have as many zeros as at its end."""
        return self._target_rule.is_known(self._optimizer) and compiled_model.reached_target(self.model)

    def _due_steps(self):
        optimizer = self._optimizer
        steps = np.arange(1, optimizer.total_steps + 1)
        return steps[ops.convert_to_numpy(optimizer.schedule.due(steps, optimizer.total_steps))]

    def _steps_done(self):
        return self._optimizer.steps_done

    def _at_target_after(self, steps):
        optimizer, done, now = self._optimizer, self._steps_done(), self.reached_target()
        updates = last_due(self._due_steps(), steps)
        ended = steps >= optimizer.total_steps
        pairs = zip(ended, updates, strict=True)
        return [bool(end) or (now if last <= done else optimizer.has_target_at(last)) for end, last in pairs]

    def _when_at_target(self, first_epoch):
        return self._target_rule.plan() or super()._when_at_target(first_epoch)

    def _unfinished(self):
        optimizer = self._optimizer
        if not optimizer.steps_done or optimizer.reached_target():
            return []
        if optimizer.mask_state.has_nonfinite_weights():
            warnings.warn("Weights hold NaN or infinity: training diverged, and nothing is cut.", stacklevel=4)
            return []
        return [Unfinished(optimizer.steps_done, optimizer.total_steps, optimizer.sparsity, optimizer.prune_now)]

    def _check_masks(self):
        # the first step may build the optimizer, and TerminateOnNaN stops without an error
        if self._optimizer.built and not self.model.stop_training:
            self._optimizer.raise_nonfinite()
        super()._check_masks()

    def _needs_new_schedule(self, optimizer) -> bool:
        """Whether this callback asks for another schedule than the optimizer has; refused while that one runs."""
        requested = (self.schedule, self.pruner, self.sparsity)
        same = requested == (optimizer.schedule, optimizer.pruner, optimizer.sparsity)
        same_addons = self.addons == tuple(optimizer.addons)
        if same and same_addons and (not optimizer.built or optimizer.has_choices(self.choice.resolve(self.model))):
            return False
        different = "targets of single layers" if same_addons else "add-ons"
        if optimizer.total_steps is not None and 0 < optimizer.steps_done < optimizer.total_steps:
            raise ValueError(
                f"The model is at step {optimizer.steps_done} of {optimizer.total_steps} of {optimizer.schedule!r} to "
                f"sparsity {optimizer.sparsity:g}; Prune asks for {self.schedule!r} to {self.sparsity:g}"
                f"{f', and for other {different}' if same else ''}. Finish the running schedule with its "
                "own arguments first, or compile the model anew: then a new schedule starts from the present zeros."
            )
        return True
