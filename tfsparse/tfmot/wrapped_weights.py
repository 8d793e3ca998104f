"""The weights of wrapped layers, with their masks."""

import math
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import granularity
from tfsparse.optimizers import slots
from tfsparse.optimizers.masked_weights import MaskedWeights
from tfsparse.optimizers.weight_storage import HardPruning
from tfsparse.pruners import reached, selection
from tfsparse.tfmot import schedules
from tfsparse.tfmot.constraints import native


class WrappedWeights(MaskedWeights):
    """The weights of some wrappers that are ranked together: those of one layer, or with scope "global" of the model.

        if due(step):                                   # before the forward pass of step 1, 2, ...
            update(sparsity(step)); apply

    All replicas hold equal weights. So the masks are computed once for all of them, and nothing is communicated.

    Attributes:
        schedule: A `PruningSchedule`, ours or any other.
        wrappers: The wrappers, in the model's order.
        find_slots: `weight -> its slots`, of the optimizer. Only the callback `Prune` knows the
            optimizer.
    """

    def __init__(self, schedule, pruner):
        self.schedule, self.pruner = schedule, pruner
        self.wrappers, self.find_slots = [], lambda weight: []
        self.storage = HardPruning(self)

    @property
    def name(self) -> str:
        """The name of the first wrapper, for messages."""
        return self.wrappers[0].name

    @property
    def units(self) -> granularity.Granularity:
        """What is pruned together."""
        return self.wrappers[0].units

    @property
    def active(self) -> list:
        """The wrappers that have something to prune and are trained."""
        return [w for w in self.wrappers if w.pruning_vars and w.trainable]

    @property
    def pruning_vars(self) -> list:
        """(weight, mask, threshold) of all active wrappers."""
        return [variables for wrapper in self.active for variables in wrapper.pruning_vars]

    @property
    def weights(self):
        return [native(weight) for weight, *_ in self.pruning_vars]

    @property
    def masks(self):
        return [mask for _, mask, _ in self.pruning_vars]

    @property
    def bounds(self):
        return [wrapper.bounds for wrapper in self.active for _ in wrapper.pruning_vars]

    @property
    def full_sparsity(self):
        return schedules.full_sparsity(self.schedule)

    def slots(self, index):
        return self.find_slots(self.weights[index])

    def num_steps(self):
        return int(self._steps())

    def conditional_mask_update(self) -> None:
        """Update the masks if the schedule asks for it in the step that begins. In replica context."""
        replicas.once(self._update_if_due)

    def weight_mask_op(self) -> tf.Operation:
        """Apply the masks to weights that were written outside of training, and measure the thresholds.

        TFMOT's callback calls it at the end of each epoch too, and its summaries show the thresholds.

        Returns:
            An operation that does nothing, as TFMOT's method of this name.
        """
        replicas.once(self.apply)
        replicas.once(self._measure_thresholds)
        return tf.no_op()

    def prune_now(self, sparsity: float) -> None:
        """Prune to `sparsity` at once, whatever the schedule says."""
        self.update(None, self.counts(sparsity))
        self.apply()

    def counts(self, sparsity: float) -> list[int]:
        """Return the entries to prune of each weight at a sparsity. N:M prunes no more than its pattern."""
        shapes = [tuple(weight.shape) for weight in self.weights]
        return self.pruner.num_prunable_together(shapes, min(sparsity, self.units.max_sparsity(shapes[0])))

    def largest_unit(self) -> int:
        """Return the largest number of entries that are pruned together."""
        return max(self.pruner.entries_per_unit(tuple(weight.shape)) for weight in self.weights)

    def final_counts(self) -> list[int] | None:
        """Return the zeros of each weight with which the schedule ends; None for one that does not say."""
        final = schedules.final_sparsity(self.schedule)
        return None if final is None else self.counts(final)

    def is_unfinished(self, steps: int | None = None) -> bool:
        """Return whether the schedule has an end that it has not reached, in the steps done or in those given."""
        steps = self.num_steps() if steps is None else steps
        return schedules.final_sparsity(self.schedule) is not None and steps < schedules.end_step(self.schedule)

    def reached_target(self) -> bool | None:
        """Return whether the schedule has ended, or as many weights are zero as at its end; None if it says neither."""
        end, final = schedules.end_step(self.schedule), self.final_counts()
        if 0 <= end <= self.num_steps():
            return True
        if final is None:
            return None if end < 0 else False
        return not schedules.ends_dense(self.schedule) and self.num_zeros() >= sum(final)

    def at_target_after(self, steps, updates) -> list[bool]:
        """Return whether the schedule will be at its target after some steps.

        Args:
            steps: Future steps.
            updates: For each of them the last step until then at which masks are updated; 0: there is none.

        Returns:
            One bool for each step.
        """
        end, now = schedules.end_step(self.schedule), bool(self.reached_target())
        pairs = zip(steps, updates, strict=True)
        return [0 <= end <= step or (self._has_target_at(update) if update else now) for step, update in pairs]

    def is_short(self) -> bool:
        """Return whether the schedule has not ended, and fewer weights are zero than at its end."""
        return self.is_unfinished() and self.num_zeros() < sum(self.final_counts())

    def check_bounds(self) -> None:
        """Refuse bounds of single weights that the schedule cannot keep.

        Raises:
            ValueError: If they do not allow its target, or if it does not say its target.
        """
        if not any(self.bounds):
            return
        if self.full_sparsity is None:
            raise ValueError(
                f"{schedules.describe(self.schedule)} does not say its target, so min_sparsity and max_sparsity of "
                f"{self.name} cannot be kept: write a schedule of tfsparse.tfmot."
            )
        selection.check_within_bounds(self.full_sparsity, self.sizes, self.bounds)

    def warn_of_missed(self) -> None:
        """Warn if whole units cannot give the final sparsity of the schedule."""
        sparsity = schedules.final_sparsity(self.schedule)
        if sparsity is None:
            return
        names = [f"{w.layer.name} {tuple(weight.shape)}" for w in self.active for weight, *_ in w.pruning_vars]
        sizes, counts = self.sizes, self.counts(sparsity)
        if self.pruner.is_global:
            names, sizes, counts = ["all layers together"], [sum(sizes)], [sum(counts)]
        rows = zip(names, sizes, counts, strict=True)
        reached.warn_of_missed(self.pruner, [reached.Reached(n, size, sparsity, count) for n, size, count in rows])

    def _steps(self):
        steps = [backend_ops.read(w.pruning_step) for w in self.active]
        return tf.reduce_max(tf.stack(steps or [tf.constant(0, tf.int64)]))

    def _update_if_due(self):
        step = tf.maximum(self._steps(), 0) + 1
        due, _ = schedules.at_step(self.schedule, step)
        backend_ops.when(due, lambda: self._update_at(step), [])

    def _update_at(self, step):
        self.check_bounds()  # once, when the branch is traced
        self.update(None, self._counts_at(step))  # within the branch: other steps do not compute the counts
        self.apply()

    def _counts_at(self, step):
        _, sparsity = schedules.at_step(self.schedule, step)
        at_end = self.final_counts() or [None] * len(self.sizes)
        units = [_equal_units(self.units, tuple(weight.shape)) for weight in self.weights]
        return [schedules.num_pruned(self.schedule, sparsity, *u, n) for u, n in zip(units, at_end, strict=True)]

    def _has_target_at(self, step):
        final = self.final_counts()
        if final is None or schedules.ends_dense(self.schedule):
            return False
        return sum(int(count) for count in self._counts_at(tf.constant(step, tf.int64))) >= sum(final)

    def _measure_thresholds(self):
        for weight, mask, threshold in self.pruning_vars:
            size = tf.abs(backend_ops.read(native(weight)))
            kept = tf.where(backend_ops.read(mask) > 0, size, threshold.dtype.max)
            replicas.assign(threshold, tf.reduce_min(kept))


def _equal_units(units, shape):
    """Return number and entries of the units that a weight is made of, or of its entries if units differ in size."""
    size, (first, *others) = math.prod(shape), units.parts(shape)
    covers = not others and first.num_units * first.entries_per_unit == size
    return (first.num_units, first.entries_per_unit) if covers else (size, 1)


def slot_finder(model: tf_keras.Model) -> Callable[..., list]:
    """Return `weight -> slots of the optimizer`. The optimizer is built now, so that a compiled step finds them."""
    optimizer, variables = getattr(model.optimizer, "inner_optimizer", model.optimizer), model.trainable_variables
    with model.distribute_strategy.scope():
        keras_internals.build_optimizer(optimizer, variables)
    return slots.finder(optimizer, [native(variable) for variable in variables], tf.Variable)
