"""Pruned weights with their masks, whoever holds them: the core that both roads share."""

import abc
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.consistency import checks
from tfsparse.masks import topk
from tfsparse.optimizers.slots import Slot
from tfsparse.pruners.selection import Bounds


class MaskedWeights(abc.ABC):
    """Some weights that are pruned together, and their masks.

        update:    weights = weights * masks;  slots = initial where masks == 0   a weight that returns is a new one
                   masks = pruner.masks(weights, gradients, masks, num_pruned)
        apply:     weights = weights * masks

    A subclass says where the variables are. On Keras 3 they are variables of the optimizer, on the TFMOT road those of
    the layer wrappers.

    Attributes:
        pruner: The `tfsparse.pruners.Pruner` that computes the masks.
        storage: The `WeightStorage` that says what happens to pruned weights.
    """

    @property
    @abc.abstractmethod
    def weights(self) -> list:
        """The pruned variables."""

    @property
    @abc.abstractmethod
    def masks(self) -> list:
        """One mask variable per weight: 1 lives, 0 is pruned. On Keras 3 uint8, on the TFMOT road as TFMOT's."""

    @abc.abstractmethod
    def slots(self, index: int) -> list[Slot]:
        """What the optimizer keeps of one weight: momenta, averages."""

    @abc.abstractmethod
    def num_steps(self) -> int:
        """Optimizer steps done, counted now."""

    @property
    @abc.abstractmethod
    def bounds(self) -> list[Bounds | None]:
        """The bounds of each weight under a global threshold; None for a weight without bounds."""

    @property
    @abc.abstractmethod
    def full_sparsity(self) -> float:
        """The common sparsity at which each weight with bounds has at least its least sparsity."""

    @property
    def groups(self) -> list[list[int]]:
        """Which weights the pruner sees together, as lists of indices."""
        return [list(range(len(self.masks)))]

    # ---- counts -----------------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> list[int]:
        """Entries of each weight."""
        return [math.prod(weight.shape) for weight in self.weights]

    def num_zeros(self) -> int:
        """Zeros in all masks, counted now."""
        return sum(int(np.sum(ops.convert_to_numpy(backend_ops.read(mask)) == 0)) for mask in self.masks)

    def sparsity(self) -> float:
        """Zeros in all masks over the entries of all weights, counted now."""
        return self.num_zeros() / sum(self.sizes)

    def num_broken(self) -> list[int]:
        """Entries of each weight that are not zero although their mask prunes them, counted now."""
        pairs = [(backend_ops.read(w), backend_ops.read(m)) for w, m in zip(self.weights, self.masks, strict=True)]
        return [backend_ops.to_int(ops.sum(ops.cast(ops.logical_and(m == 0, w != 0), "int32"))) for w, m in pairs]

    def zeros_of_each(self) -> list:
        """Zeros in each mask, as int32 tensors."""
        return [ops.sum(ops.cast(backend_ops.read(mask) == 0, "int32")) for mask in self.masks]

    def of_trained(self, items: list) -> list:
        """Return the items of those weights that are trained, of one item per weight."""
        return items

    def num_prunable(self, sparsity: float) -> int:
        """Entries that the pruner prunes of all weights when `sparsity` is the target."""
        return sum(self.pruner.num_prunable_together([tuple(weight.shape) for weight in self.weights], sparsity))

    # ---- masks ------------------------------------------------------------------------------------------------------

    def update(self, gradients: Sequence | None, num_pruned: Sequence, pruner=None) -> None:
        """Compute new masks and assign them. In cross-replica context; call `apply` afterwards.

        Args:
            gradients: One tensor per weight; None for a pruner that needs none.
            num_pruned: Entries to prune of each weight: ints or integer tensors.
            pruner: What computes the masks; None: `self.pruner`.
        """
        self._set_masks(self.storage.weights_to_rank(), gradients, num_pruned, pruner)

    def apply(self) -> None:
        """`weight = weight * mask`, in cross-replica context."""
        self.storage.apply()

    def mask_weights(self) -> None:
        """`weight = weight * mask`."""
        self._update_all(zip(self.weights, self.masks, itertools.repeat(0.0)))

    def empty_slots(self) -> None:
        """Set the slots of pruned weights to what they hold for a new weight."""
        self._update_all((slot.variable, mask, slot.initial) for slot, mask in self._slots_and_masks())

    def mask_averages(self) -> None:
        """`average = average * mask`, for what may be put in the place of a weight at any time."""
        self._update_all((slot.variable, mask, 0.0) for slot, mask in self._slots_and_masks() if slot.is_average)

    def _slots_and_masks(self):
        return [(slot, mask) for index, mask in enumerate(self.masks) for slot in self.slots(index)]

    def _update_all(self, updates):
        """Set variables to a value where their mask is 0, one after another."""
        backend_ops.make_in_turn(
            replicas.update(variable, backend_ops.traced_for_all_lengths(_masked, pruned), mask)
            for variable, mask, pruned in updates
        )

    def all_slots(self) -> list:
        """The slots of all weights, as variables."""
        return [slot.variable for slot, _ in self._slots_and_masks()]

    @property
    def has_averages(self) -> bool:
        """Whether the optimizer keeps averages that may be put in the place of weights."""
        return any(slot.is_average for slot, _ in self._slots_and_masks())

    def prune_to(self, num_zeros: int) -> None:
        """Prune now until `num_zeros` entries of all weights together are zero, and empty their slots."""
        self.update(None, topk.split_proportionally(num_zeros, [size - 1 for size in self.sizes]))
        self.apply()
        self.empty_slots()

    def in_groups(self, function: Callable, *values: Sequence) -> Iterator[tuple]:
        """Call `function(*values)` for the weights of each group together; yield their indices and results."""
        values = [ops.unstack(v) if hasattr(v, "shape") else v for v in values]
        for group in self.groups:
            results = function(*([v[i] for i in group] for v in values))
            yield from zip(group, results, strict=True)

    def _set_masks(self, weights, gradients, num_pruned, pruner):
        old = [backend_ops.read(mask) for mask in self.masks]
        new = self._rank(pruner or self.pruner, weights, gradients or [None] * len(old), old, num_pruned)
        masks = self.masks
        backend_ops.make_in_turn(replicas.assign(masks[i], ops.cast(mask, old[i].dtype)) for i, mask in new)

    def _rank(self, pruner, weights, gradients, masks, num_pruned) -> Iterator[tuple]:
        """Yield indices of weights and the masks that the pruner computes of them."""
        bounds = self.bounds
        if not any(bounds):
            return self.in_groups(pruner.masks, weights, gradients, masks, num_pruned)
        rank = functools.partial(_masks_within_bounds, pruner, self.full_sparsity)
        return self.in_groups(rank, weights, gradients, masks, num_pruned, bounds)

    def _dependents(self):
        """What diverges with a mask."""
        return [*self.weights, *self.masks, *self.all_slots(), *self.storage.dense_weights]


def _masked(pruned, values, mask):
    # traced, or TensorFlow would keep the mask as floats until another variable is masked by it
    return backend_ops.masked(values, mask, pruned)


def _masks_within_bounds(pruner, sparsity, weights, gradients, masks, num_pruned, bounds):
    """Return masks within bounds. The least sparsities grow with the common one, so that they never ask for more."""
    target = sparsity * sum(math.prod(w.shape) for w in weights)
    progress = ops.minimum(sum(ops.cast(n, "float32") for n in num_pruned) / max(target, 1.0), 1.0)
    grown = [bound and (bound.least * progress, bound.largest) for bound in bounds]
    return pruner.with_bounds(grown).masks(weights, gradients, masks, num_pruned)


def check_replicas(groups: Sequence[MaskedWeights], on_divergence: str = "raise", sync_stats=None) -> None:
    """Compare the masks of all replicas in one message, see `tfsparse.consistency.checks.check_masks`.

    Args:
        groups: All pruned weights of the model.
        on_divergence: "raise" or "repair". A repair copies masks, weights and slots from the first replica.
        sync_stats: Where the bytes that were sent are counted; None: nowhere.
    """
    masks = [mask for group in groups for mask in group.masks]
    names = [getattr(weight, "path", weight.name) for group in groups for weight in group.weights]

    def dependents():
        return [variable for group in groups for variable in group._dependents()]

    checks.check_masks(masks, names, on_divergence=on_divergence, dependents=dependents, sync_stats=sync_stats)
