"""What happens to pruned weights: they become zero, or they go on training in hidden dense copies."""

import abc
import itertools

import keras
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.optimizers.validation import couples_coordinates

_ROUND_OFF = 1e-4  # relative; TensorFlow and JAX differ by less, so a smaller change was not written by the user


class WeightStorage(abc.ABC):
    """The part of a training step that depends on how pruned weights are stored.

    Args:
        state: The `MaskedWeights` with the variables, the masks and the pruner.
    """

    def __init__(self, state):
        self.state = state

    @abc.abstractmethod
    def before_step(self) -> None:
        """Called before the inner optimizer's step, in replica context."""

    @abc.abstractmethod
    def gradients(self, gradients: dict) -> dict:
        """Return the gradients, by index of the trainable variable, that the inner optimizer gets."""

    @abc.abstractmethod
    def after_step(self) -> None:
        """Called after the inner optimizer's step; in cross-replica context like all methods that follow."""

    @abc.abstractmethod
    def update_is_due(self, schedule, step, total):
        """Return whether the masks are computed at this step, as a boolean tensor."""

    @abc.abstractmethod
    def assigned(self) -> list:
        """Return the variables that `weights_to_rank` reads or assigns."""

    @abc.abstractmethod
    def weights_to_rank(self) -> list:
        """Return the weights that the pruner ranks at an update of the masks."""

    @abc.abstractmethod
    def apply(self) -> None:
        """Make the model's variables sparse."""

    @abc.abstractmethod
    def accept_external_writes(self) -> None:
        """Accept values that were written to the model's variables outside of training."""

    @abc.abstractmethod
    def start_from_weights(self) -> None:
        """Forget what is stored beside the model's variables: they were written outside of training."""

    def has_external_writes(self) -> bool:
        """Return whether `accept_external_writes` would change something."""
        return False

    @property
    def dense_weights(self) -> list:
        """The variables in which pruned weights are trained on, one per mask; an empty list if there are none."""
        return []

    def _with_masks(self, function, gradients):
        """Apply `function(gradient, mask)` to the gradients of pruned weights; leave the others as they are."""
        pairs = zip(self.state.indices, self.state.masks, strict=True)
        return gradients | {i: function(gradients[i], mask) for i, mask in pairs if gradients.get(i) is not None}


class HardPruning(WeightStorage):
    """Pruned weights are zero. A weight that returns starts from zero, with the slots of a new weight.

        before an update:   weights = weights * masks;  slots of pruned weights as those of new ones
        after every step:   weights = weights * masks;  averages = averages * masks
    """

    def before_step(self):
        pass

    def gradients(self, gradients):
        if not couples_coordinates(self.state.inner_optimizer, self.state.weights):
            return gradients
        return self._with_masks(lambda gradient, mask: gradient * ops.cast(mask, gradient.dtype), gradients)

    def after_step(self):
        pass

    def update_is_due(self, schedule, step, total):
        return schedule.due(step, total)

    def assigned(self):
        return [*self.state.weights, *self.state.all_slots()]

    def weights_to_rank(self):
        self.apply()
        self.state.empty_slots()
        return [backend_ops.read(weight) for weight in self.state.weights]

    def apply(self):
        self.state.mask_weights()
        self.state.mask_averages()

    def accept_external_writes(self):
        pass

    def start_from_weights(self):
        pass


class StraightThrough(WeightStorage):
    """Pruned weights are trained on in dense copies. They may return with the value that they have reached.

        before every step:  weights = dense;  gradients = pruner.backward(gradients, masks)
        after it:           dense = weights;  masks from dense;  weights = pruner.forward(dense, masks)

    The masks are computed at every step to the end of training and after it, since they depend on the dense weights.
    """

    def __init__(self, state):
        super().__init__(state)
        values = [keras.initializers.Constant(backend_ops.to_numpy(v)) for v in state.weights]
        self._dense = [state.add_like(v, "dense", value) for v, value in zip(state.weights, values, strict=True)]

    @property
    def dense_weights(self):
        return self._dense

    @property
    def _trained_dense(self):
        return self.state.of_trained(self._dense)

    def before_step(self):
        replicas.once(lambda: _assign(self.state.weights, self._trained_dense))

    def gradients(self, gradients):
        return self._with_masks(self.state.pruner.backward, gradients)

    def after_step(self):
        _assign(self._trained_dense, self.state.weights)

    def update_is_due(self, schedule, step, total):
        return True

    def assigned(self):
        return self._trained_dense

    def weights_to_rank(self):
        return [backend_ops.read(dense) for dense in self._trained_dense]

    def apply(self):
        weights = self.state.weights
        backend_ops.make_in_turn(replicas.assign(weights[index], value) for index, value in self._sparse_values())

    def accept_external_writes(self):
        """Take every value that differs from `_sparse_values` as a new dense weight, and keep the number of zeros."""
        dense = self._trained_dense
        for index, value, written in self._written():
            replicas.assign(dense[index], ops.where(written, value, backend_ops.read(dense[index])))
        self.state.update(None, self.state.zeros_of_each())

    def start_from_weights(self):
        _assign(self._trained_dense, self.state.weights)

    def has_external_writes(self):
        return any(bool(ops.any(written)) for *_, written in self._written())

    def _written(self):
        """Yield for each weight its index, what its variable holds, and where that was written outside of training."""
        weights = self.state.weights
        for index, sparse in self._sparse_values():
            value = backend_ops.read(weights[index])
            yield index, value, ops.abs(value - sparse) > _ROUND_OFF * ops.maximum(ops.abs(value), ops.abs(sparse))

    def _sparse_values(self):
        """Yield the index of each weight and what the model's variable must hold."""
        masks = [backend_ops.read(mask) for mask in self.state.masks]
        return self.state.in_groups(self.state.pruner.forward, self.weights_to_rank(), masks)


def _assign(variables, values):
    backend_ops.make_in_turn(itertools.starmap(replicas.assign, zip(variables, values, strict=True)))


def for_pruner(pruner) -> type[WeightStorage]:
    """Return the storage that a pruner needs."""
    return StraightThrough if pruner.straight_through else HardPruning
