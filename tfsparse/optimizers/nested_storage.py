"""What the schedule `tfsparse.Nested` does with the hidden dense weights of a straight-through pruner."""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.optimizers import weight_storage
from tfsparse.schedules import Nested


class NestedStraightThrough(weight_storage.StraightThrough):
    """Straight-through until levels are drawn; then pruned weights start again from zero and get no gradient.

    before every step:  weights = dense                                    first step that draws: dense = weights
                        gradients = pruner.backward(gradients, masks)      steps that draw: gradients * masks
    """

    def before_step(self):
        replicas.once(self._restore_dense_weights)

    def gradients(self, gradients):
        draws = self._step() > self._num_target_steps()

        def backward(gradient, mask):
            lives = ops.logical_or(mask > 0, ops.logical_not(draws))
            return self.state.pruner.backward(gradient, mask) * ops.cast(lives, gradient.dtype)

        return self._with_masks(backward, gradients)

    def _restore_dense_weights(self):
        starts = ops.equal(self._step(), self._num_target_steps() + 1)
        for variable, dense in zip(self.state.weights, self._trained_dense, strict=True):
            replicas.assign(variable, ops.where(starts, backend_ops.read(variable), backend_ops.read(dense)))

    def _step(self):
        """Return the step of the schedule that is made next, counted from 1."""
        done = backend_ops.read(self.state.inner_optimizer.iterations) - backend_ops.read(self.state.begin)
        return ops.cast(done, "int32") + 1

    def _num_target_steps(self):
        return self.state.schedule.num_target_steps(backend_ops.read(self.state.total_steps))


def for_optimizer(optimizer) -> type[weight_storage.WeightStorage]:
    """Return the storage that the schedule and the pruner of a `SparseOptimizer` need."""
    if isinstance(optimizer.schedule, Nested):
        return NestedStraightThrough
    return weight_storage.for_pruner(optimizer.pruner)
