"""What becomes of pruned weights: gone until they start afresh, or living on dense_weights."""

import abc

import keras
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.optimizers.validation import couples_coordinates

_ROUND_OFF = 1e-4  # between engines: what changed by less was written by nobody


class WeightStorage(abc.ABC):
    """What differs in a step of `SparseOptimizer` by what becomes of pruned weights.

    Args:
        state: the optimizer's `MaskState`, which has variables and masks.
        pruner: the optimizer's.
    """

    def __init__(self, state, pruner):
        self.state, self.pruner = state, pruner

    @abc.abstractmethod
    def before_step(self) -> None:
        """Called before the inner optimizer's step, in replica context."""

    @abc.abstractmethod
    def gradients(self, gradients: dict) -> dict:
        """Gradients, by place among the trainable variables, as the inner optimizer may see them."""

    @abc.abstractmethod
    def after_step(self) -> None:
        """Called after the inner optimizer's step, in cross-replica context like all that follow."""

    @abc.abstractmethod
    def due(self, schedule, step, total):
        """Are the masks computed anew at this step?"""

    @abc.abstractmethod
    def assigned(self) -> list:
        """The variables that `weights_to_rank` reads or assigns."""

    @abc.abstractmethod
    def weights_to_rank(self) -> list:
        """The weights that the pruner ranks at an update of the masks."""

    @abc.abstractmethod
    def apply(self) -> None:
        """Make the model's variables sparse."""

    @abc.abstractmethod
    def accept_external_writes(self) -> None:
        """Accept what was written to the model's variables from outside."""

    @property
    def dense_weights(self) -> list:
        """The variables in which pruned weights live on, one per mask, or none."""
        return []

    def _with_masks(self, function, gradients):
        """`function(gradient, mask)` of what is pruned and has a gradient; the others as they are."""
        pairs = zip(self.state.places, self.state.masks, strict=True)
        return gradients | {i: function(gradients[i], mask) for i, mask in pairs if gradients.get(i) is not None}


class HardPruning(WeightStorage):
    """Pruned weights are zero, and one that returns starts from zero with empty slots.

        before an update:   weights = weights * masks;  slots = slots * masks      what gathered since the last one
        after every step:   weights = weights * masks
    """

    def __init__(self, state, pruner):
        super().__init__(state, pruner)
        self._couples = couples_coordinates(state.inner_optimizer, state.variables)

    def before_step(self):
        pass

    def gradients(self, gradients):
        if not self._couples:
            return gradients
        return self._with_masks(lambda gradient, mask: gradient * ops.cast(mask, gradient.dtype), gradients)

    def after_step(self):
        pass

    def due(self, schedule, step, total):
        return schedule.due(step, total)

    def assigned(self):
        return [*self.state.variables, *self.state.all_slots()]

    def weights_to_rank(self):
        self.apply()
        self.state.empty_slots()
        return [backend_ops.read(v) for v in self.state.variables]

    def apply(self):
        for variable, mask in zip(self.state.variables, self.state.masks, strict=True):
            replicas.update(variable, backend_ops.masked, mask)

    def accept_external_writes(self):
        pass


class StraightThrough(WeightStorage):
    """Straight-through: pruned weights live on in dense copies, dense_weights, and may return with the value they reached.

        before every step:  variables = dense;  gradients = pruner.backward(gradients, masks)
        after it:           dense = variables;  masks from dense;  variables = pruner.values(dense, masks)

    The masks follow at every step to the end of training and beyond: what lives is a matter of the dense weights.
    """

    def __init__(self, state, pruner):
        super().__init__(state, pruner)
        values = [keras.initializers.Constant(backend_ops.array(v)) for v in state.variables]
        self._dense = [state.add_like(v, "dense", value) for v, value in zip(state.variables, values, strict=True)]

    @property
    def dense_weights(self):
        return self._dense

    def before_step(self):
        replicas.once(lambda: _assign(self.state.variables, self._dense))

    def gradients(self, gradients):
        return self._with_masks(self.pruner.backward, gradients)

    def after_step(self):
        _assign(self._dense, self.state.variables)

    def due(self, schedule, step, total):
        return True

    def assigned(self):
        return self._dense

    def weights_to_rank(self):
        return [backend_ops.read(d) for d in self._dense]

    def apply(self):
        _assign(self.state.variables, self._shown())

    def accept_external_writes(self):
        """What differs from what was shown was written by somebody, and is a dense weight from now on."""
        for dense, variable, shown in zip(self._dense, self.state.variables, self._shown(), strict=True):
            value = backend_ops.read(variable)
            written = ops.abs(value - shown) > _ROUND_OFF * ops.maximum(ops.abs(value), ops.abs(shown))
            _assign([dense], [ops.where(written, value, backend_ops.read(dense))])
        zeros = [ops.sum(ops.cast(backend_ops.read(m) == 0, "int32")) for m in self.state.masks]
        self.state.update(self.pruner, None, zeros)

    def _shown(self):
        """The model's variables as they must be."""
        return self.state.in_groups(self.pruner.values, self.weights_to_rank(), [backend_ops.read(m) for m in self.state.masks])


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        replicas.assign(variable, value)


def of(pruner) -> type[WeightStorage]:
    """The storage that a pruner has in mind for what it prunes."""
    return StraightThrough if pruner.straight_through else HardPruning
