"""Which weights live: the pruner's contract, and all of it but the score."""

import abc
import math
import numbers
from collections.abc import Sequence

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.registry import Configurable, Registry
from tfsparse.masks import granularity as granularities
from tfsparse.masks import topk
from tfsparse.pruners.allocation import erk


class Pruner(Configurable, abc.ABC):
    """Base of all pruners: stateless and serialisable, called at every mask update.

    Attributes:
        needs_gradients: True: `masks` gets the gradients of this step, those of the global batch.
        monotone: True: a pruned weight stays pruned while the sparsity does not fall.
        straight_through: True: pruned weights live on, unseen, and may return with the value that they have reached;
            masks are computed at every step, whatever the schedule's `updates`, to the end of training.
    """

    needs_gradients = False
    monotone = True
    straight_through = False

    @abc.abstractmethod
    def masks(self, weights: Sequence, gradients: Sequence, masks: Sequence, num_pruned: Sequence) -> list:
        """The new masks.

        Args:
            weights, gradients, masks: lists of tensors of equal shapes; gradients are None unless `needs_gradients`.
            num_pruned: per weight the number of entries to prune, an int or an integer tensor.
        """

    def at_step(self, step, total) -> "Pruner":
        """This pruner at a step of training (counted from 1) of `total`: for methods that change with time."""
        return self

    def forward(self, weights: Sequence, masks: Sequence) -> list:
        """What the model's variables hold, zero wherever the mask is; only asked of a straight-through pruner."""
        return [backend_ops.masked(w, m) for w, m in zip(weights, masks, strict=True)]

    def backward(self, gradient, mask):
        """The gradient of a weight from that of what the model's variable holds; only asked of the same."""
        return gradient

    def allocate(self, shapes: Sequence[tuple], sparsity: float) -> list[float]:
        """The sparsity of each weight at the end of training, so that all together reach `sparsity`."""
        return [sparsity] * len(shapes)

    def num_prunable(self, shape: tuple, sparsity: float) -> int:
        """Entries that are pruned when `sparsity` of a weight is asked; 0 if this pruner cannot prune such a weight."""
        return topk.num_pruned(float(sparsity), math.prod(shape))

    def entries_per_unit(self, shape: tuple) -> int:
        """Entries that live or die together; a joint total is met to within one unit."""
        return 1

    @property
    def is_global(self) -> bool:
        """True when weights compete with each other, so that one sparsity holds for all of them together."""
        return False


pruners = Registry("pruner", Pruner)
get = pruners.get
names = pruners.names


class ScorePruner(Pruner):
    """A pruner that ranks weights by a score; a new method writes only `score`.

        masks = 1 where score is among the (1 - sparsity) * size largest, else 0

    Args:
        granularity: "weight", "channel", a block (outputs, inputs), "n:m", or {"dense": ..., "conv": ...} of two of
            these: one for kernels of rank 2, one for all others.
        scope: "layer" (each weight reaches its own sparsity) or "global" (one threshold for all).
        allocation: "uniform" or "erk": how a layer-scoped target is spread over the layers.

    Raises: ValueError for anything else.
    """

    def __init__(self, granularity="weight", scope: str = "layer", allocation: str = "uniform"):
        self._units = granularities.get(granularity)
        _check_choice("scope", scope, ("layer", "global"))
        _check_choice("allocation", allocation, ("uniform", "erk"))
        if scope == "global" and allocation != "uniform":
            raise ValueError(
                f'scope="global" finds its own allocation, so allocation={allocation!r} has no meaning: '
                'drop one of them, for example Magnitude(scope="layer", allocation="erk").'
            )
        self.granularity, self.scope, self.allocation = granularities.to_config(granularity), scope, allocation

    @abc.abstractmethod
    def score(self, weight, gradient, mask):
        """The importance of each entry, >= 0 and lowest for pruned ones; same shape as the weight."""

    def scores(self, weights, gradients, masks) -> list:
        """The scores of all weights."""
        return [self.score(w, g, m) for w, g, m in zip(weights, gradients, masks, strict=True)]

    def masks(self, weights, gradients, masks, num_pruned):
        scores = self.scores(weights, gradients, masks)
        scores = [self._units.break_ties(s, m) for s, m in zip(scores, masks, strict=True)]
        pooled = [self._units.pool(s) for s in scores]
        alive = [self._units.pool(m) for m in masks]
        counts = [self._num_units(s.shape, n) for s, n in zip(scores, num_pruned, strict=True)]
        if self.is_global:
            most = [self._units.max_pruned_units(s.shape) for s in scores]
            entries = [self._units.entries_per_unit(s.shape) for s in scores]
            total = sum(c * e for c, e in zip(counts, entries, strict=True))
            unit_masks = topk.prune_lowest_globally(pooled, total, most, entries, alive)
        else:
            unit_masks = topk.prune_lowest(pooled, counts, alive)
        return [
            ops.cast(self._units.expand(u, s), m.dtype) for u, s, m in zip(unit_masks, scores, masks, strict=True)
        ]

    def allocate(self, shapes, sparsity):
        return erk(shapes, sparsity) if self.allocation == "erk" else super().allocate(shapes, sparsity)

    def num_prunable(self, shape, sparsity):
        shape = tuple(shape)
        if self._units.num_units(shape) == 0:
            return 0
        limit = self._units.max_pruned_units(shape) * self._units.entries_per_unit(shape)
        highest = self._units.max_sparsity(shape)
        if sparsity > highest + 1e-9:
            raise ValueError(
                f"granularity={self.granularity!r} ends at a sparsity of {highest:g} in a kernel of shape {shape} and "
                f"cannot reach {sparsity:g}: write sparsity={highest:g}."
            )
        return min(self._num_units(shape, topk.num_pruned(sparsity, math.prod(shape))) * self._units.entries_per_unit(shape), limit)

    def entries_per_unit(self, shape):
        return self._units.entries_per_unit(tuple(shape))

    @property
    def is_global(self):
        return self.scope == "global"

    def _num_units(self, shape, num_pruned):
        """The nearest number of units for a number of entries to prune."""
        entries, most = self._units.entries_per_unit(shape), self._units.max_pruned_units(shape)
        if isinstance(num_pruned, numbers.Integral):
            return min((int(num_pruned) + entries // 2) // entries, most)
        return ops.minimum(ops.floor_divide(ops.cast(num_pruned, "int32") + entries // 2, entries), most)


def _check_choice(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what}={value!r}: expected one of {', '.join(map(repr, choices))}.")
