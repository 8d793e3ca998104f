"""Which weights live: the pruner's contract, and all of it but the score."""

import abc
import math
from collections.abc import Sequence

from keras import ops

from tfsparse import engine
from tfsparse import granularity as granularities
from tfsparse import masks as mask_lib
from tfsparse.registry import Configurable, Registry


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
    def masks(self, weights: Sequence, gradients: Sequence, masks: Sequence, sparsities: Sequence) -> list:
        """The new masks.

        Args:
            weights, gradients, masks: lists of tensors of equal shapes; gradients are None unless `needs_gradients`.
            sparsities: per weight a fraction in [0, 1), or an integer: the number of entries to prune.
        """

    def at(self, step, total) -> "Pruner":
        """This pruner at a step of training (counted from 1) of `total`: for methods that change with time."""
        return self

    def values(self, weights: Sequence, masks: Sequence) -> list:
        """What the model's variables hold, zero wherever the mask is; only asked of a straight-through pruner."""
        return [engine.masked(w, m) for w, m in zip(weights, masks, strict=True)]

    def backward(self, gradient, mask):
        """The gradient of a weight from that of what the model's variable holds; only asked of the same."""
        return gradient

    def allocate(self, shapes: Sequence[tuple], sparsity: float) -> list[float]:
        """The sparsity of each weight at the end of training, so that all together reach `sparsity`."""
        return [sparsity] * len(shapes)

    def reachable(self, shape: tuple, sparsity: float) -> int:
        """Entries that are pruned when `sparsity` of a weight is asked; 0 if this pruner cannot prune such a weight."""
        return mask_lib.number_pruned(float(sparsity), math.prod(shape))

    def unit(self, shape: tuple) -> int:
        """Entries that live or die together; a joint total is met to within one unit."""
        return 1

    @property
    def jointly(self) -> bool:
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
        self.granularity, self.scope, self.allocation = granularities.written(granularity), scope, allocation

    @abc.abstractmethod
    def score(self, weight, gradient, mask):
        """The importance of each entry, >= 0 and lowest for pruned ones; same shape as the weight."""

    def scores(self, weights, gradients, masks) -> list:
        """The scores of all weights."""
        return [self.score(w, g, m) for w, g, m in zip(weights, gradients, masks, strict=True)]

    def masks(self, weights, gradients, masks, sparsities):
        scores = self.scores(weights, gradients, masks)
        scores = [self._units.settle(s, m) for s, m in zip(scores, masks, strict=True)]
        pooled = [self._units.pool(s) for s in scores]
        alive = [self._units.pool(m) for m in masks]
        counts = [self._count(s.shape, sparsity) for s, sparsity in zip(scores, sparsities, strict=True)]
        if self.jointly:
            most = [self._units.most(s.shape) for s in scores]
            entries = [self._units.entries(s.shape) for s in scores]
            total = sum(c * e for c, e in zip(counts, entries, strict=True))
            unit_masks = mask_lib.prune_lowest_jointly(pooled, total, most, entries, alive)
        else:
            unit_masks = mask_lib.prune_lowest(pooled, counts, alive)
        return [
            ops.cast(self._units.spread(u, s), m.dtype) for u, s, m in zip(unit_masks, scores, masks, strict=True)
        ]

    def allocate(self, shapes, sparsity):
        return erk(shapes, sparsity) if self.allocation == "erk" else super().allocate(shapes, sparsity)

    def reachable(self, shape, sparsity):
        shape = tuple(shape)
        if self._units.units(shape) == 0:
            return 0
        limit = self._units.most(shape) * self._units.entries(shape)
        highest = self._units.highest(shape)
        if sparsity > highest + 1e-9:
            raise ValueError(
                f"granularity={self.granularity!r} ends at a sparsity of {highest:g} in a kernel of shape {shape} and "
                f"cannot reach {sparsity:g}: write sparsity={highest:g}."
            )
        return min(self._count(shape, float(sparsity)) * self._units.entries(shape), limit)

    def unit(self, shape):
        return self._units.entries(tuple(shape))

    @property
    def jointly(self):
        return self.scope == "global"

    def _count(self, shape, sparsity):
        """Units to prune for a sparsity of the weight."""
        entries, most = self._units.entries(shape), self._units.most(shape)
        count = mask_lib.number_pruned(sparsity, math.prod(shape))
        if isinstance(count, int):
            return min((count + entries // 2) // entries, most)
        return ops.minimum(ops.floor_divide(count + entries // 2, entries), most)


def erk(shapes: Sequence[tuple], sparsity: float) -> list[float]:
    """Erdos-Renyi-kernel allocation: density of a layer proportional to `sum(shape) / prod(shape)`, at most 1.

    Layers whose share would exceed 1 stay dense and the others take their part, so that the total is exact.
    Source: Evci et al., "RigL" (ICML 2020).

    >>> [round(1 - s, 6) for s in erk([(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)], 0.9)]
    [1.0, 0.087072, 0.088433, 1.0]
    """
    sizes, raw = [math.prod(s) for s in shapes], [sum(s) / math.prod(s) for s in shapes]
    budget, dense = (1 - sparsity) * sum(sizes), set()
    while True:
        free = [i for i in range(len(shapes)) if i not in dense]
        if not free:
            return [0.0] * len(shapes)
        scale = (budget - sum(sizes[i] for i in dense)) / sum(sizes[i] * raw[i] for i in free)
        over = [i for i in free if scale * raw[i] > 1]
        if not over:
            return [0.0 if i in dense else 1 - scale * raw[i] for i in range(len(shapes))]
        dense.add(max(over, key=lambda i: raw[i]))


def _check_choice(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what}={value!r}: expected one of {', '.join(map(repr, choices))}.")
