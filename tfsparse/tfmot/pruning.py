"""What happens to the masks of wrapped layers: before a forward pass of training, and after an optimizer's step."""

import numpy as np
import tensorflow as tf
import tf_keras

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.masks import topk
from tfsparse.tfmot import schedules


class Pruning:
    """The masks of some wrappers that are ranked together: those of one layer, or with scope "global" of the model.

        if due(step):                                   # before the forward pass of step 1, 2, ...
            slots = slots * masks                       # a weight that returns starts with empty slots
            masks = pruner.masks(weights, sparsity(step))
            weights = weights * masks

    All replicas hold equal weights, so the masks are computed once for all of them and nothing is communicated.

    Args:
        schedule: a `PruningSchedule`, ours or any other.
        pruner: a `tfsparse.pruners.Pruner` that needs no gradients.
    """

    def __init__(self, schedule, pruner):
        self.schedule, self.pruner = schedule, pruner
        self.wrappers = []
        self.slots = lambda weight: []  # the optimizer's state of a weight; `Prune` knows the optimizer

    @property
    def active(self) -> list:
        """The wrappers that have something to prune and are trained."""
        return [w for w in self.wrappers if w.pruning_vars and w.trainable]

    @property
    def pruning_vars(self) -> list:
        """(weight, mask, threshold) of all active wrappers."""
        return [variables for wrapper in self.active for variables in wrapper.pruning_vars]

    @property
    def steps(self):
        """Optimizer steps done."""
        return tf.reduce_max(tf.stack([backend_ops.read(w.pruning_step) for w in self.active] or [tf.constant(0, tf.int64)]))

    def zeros(self) -> tuple[int, int]:
        """Zeros in the masks, and entries."""
        values = [mask.numpy() for _, mask, _ in self.pruning_vars]
        return sum(int(np.sum(v == 0)) for v in values), sum(v.size for v in values)

    def conditional_mask_update(self) -> None:
        """Compute the masks anew if the schedule wants it in the step that begins."""
        replicas.once(self._update_if_due)

    def weight_mask_op(self) -> tf.Operation:
        """`weight = weight * mask`, for weights that were written to from outside, and the thresholds that summaries
        show. TFMOT's callback calls it at each epoch's end too."""
        replicas.once(self._multiply)
        replicas.once(self._measure_thresholds)
        return tf.no_op()

    def prune_now(self, sparsity: float) -> None:
        """Go to `sparsity` at once, whatever the schedule says."""
        counts = [topk.num_pruned(float(sparsity), w.shape.num_elements()) for w, *_ in self.pruning_vars]
        self._update(counts)

    def prune_to(self, zeros: int) -> None:
        """Prune up to `zeros` entries of all weights together, and empty their slots."""
        self._update(topk.split_proportionally(zeros, [w.shape.num_elements() - 1 for w, *_ in self.pruning_vars]))
        self._empty_slots()

    def _update_if_due(self):
        step = tf.maximum(self.steps, 0) + 1
        due, _ = schedules.at(self.schedule, step)
        backend_ops.when(due, lambda: self._update(self._counts(step)), [])

    def _counts(self, step):
        """Entries to prune of each weight; asked for within the branch, so that the other steps do not compute it."""
        _, sparsity = schedules.at(self.schedule, step)
        sizes = [weight.shape.num_elements() for weight, *_ in self.pruning_vars]
        return [schedules.num_pruned(self.schedule, sparsity, size) for size in sizes]

    def _update(self, counts):
        values = [backend_ops.read(native(weight)) for weight, *_ in self.pruning_vars]
        old = [backend_ops.read(mask) for _, mask, _ in self.pruning_vars]
        new = self.pruner.masks(values, [None] * len(old), old, counts)
        self._empty_slots()
        for (_, mask, _), value in zip(self.pruning_vars, new, strict=True):
            replicas.assign(mask, value)
        self._multiply()

    def _empty_slots(self):
        for weight, mask, _ in self.pruning_vars:
            for slot in self.slots(native(weight)):
                replicas.update(slot, backend_ops.masked, mask)

    def _multiply(self):
        for weight, mask, _ in self.pruning_vars:
            replicas.update(native(weight), backend_ops.masked, mask)

    def _measure_thresholds(self):
        for weight, mask, threshold in self.pruning_vars:
            kept = tf.where(backend_ops.read(mask) > 0, tf.abs(backend_ops.read(native(weight))), threshold.dtype.max)
            replicas.assign(threshold, tf.reduce_min(kept))


class KeepMasked(tf_keras.constraints.Constraint):
    """`weight = inner(weight) * mask` after every optimizer step, wherever the step is made; and counts the steps.

    A constraint is what Keras applies right after each update, within the compiled step and before any callback: so no
    checkpoint and no interrupt finds a pruned weight that is not zero.

    Args:
        inner: the constraint that the weight had, or None.
        mask: variable of the weight's shape.
        steps: the integer variable that counts, or None if another weight of the layer does it.
    """

    def __init__(self, inner, mask: tf.Variable, steps: tf.Variable | None):
        self.inner, self.mask, self.steps = inner, mask, steps

    def __call__(self, weight):
        if self.steps is not None:
            self.steps.assign_add(1)
        if self.inner is not None:
            weight = self.inner(weight)
        return backend_ops.masked(weight, self.mask)


def constrain(weight: tf.Variable, constraint: tf_keras.constraints.Constraint) -> None:
    """Give a variable that exists already its constraint, on all of its replicas."""
    for variable in getattr(weight, "values", [weight]):
        variable._constraint = constraint  # there is no public way to constrain an existing variable


def native(weight) -> tf.Variable:
    """The variable itself, which under mixed precision reads in its own dtype."""
    return getattr(weight, "_variable", weight)


def user_constraint(weight):
    """The constraint that the user gave the weight."""
    constraint = native(weight).constraint
    return constraint.inner if isinstance(constraint, KeepMasked) else constraint
