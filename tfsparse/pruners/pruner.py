"""The contract of a pruner, and the base of all pruners that rank weights by a score."""

import abc
import copy
import math
import numbers
from collections.abc import Sequence

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.registry import Configurable, Registry, check_choice
from tfsparse.masks import granularity as granularities
from tfsparse.masks import topk
from tfsparse.pruners.allocation import erk

_ROUND_OFF = 1e-3  # in float32 0.7 * 10 is slightly less than 7


class Pruner(Configurable, abc.ABC):
    """Base of all pruners: decides which weights are kept. A subclass writes `masks`.

    A pruner has no state that changes in training. It is called at every mask update, inside the compiled training
    step, so its methods consist of `keras.ops`. The arguments of `__init__` are stored as attributes of the same names;
    they are the configuration that is saved.

    Attributes:
        needs_gradients: True if `masks` uses the gradients of the step. They are those of the global batch.
        monotone: True if a pruned weight stays pruned while the sparsity does not fall.
        straight_through: True if pruned weights keep a hidden dense copy that is trained on, and may return with the
            value that the copy has reached. Then the masks are computed at every step until the end of training,
            whatever the schedule's `updates`.
    """

    needs_gradients = False
    monotone = True
    straight_through = False

    @abc.abstractmethod
    def masks(self, weights: Sequence, gradients: Sequence, masks: Sequence, num_pruned: Sequence) -> list:
        """Return the new masks.

        Args:
            weights: Tensors, zero where they are pruned.
            gradients: Tensors of the same shapes. None for each weight unless `needs_gradients` is True.
            masks: The masks until now: tensors of the same shapes, 1 is kept, 0 is pruned.
            num_pruned: For each weight the number of entries to prune, an int or an integer tensor.

        Returns:
            Tensors of zeros and ones with the shapes and dtypes of `masks`.
        """

    def at_step(self, step, total) -> "Pruner":
        """Return the pruner as it is at a step of training, for pruners whose rule changes during training.

        Args:
            step: Step of training, counted from 1; an integer tensor.
            total: Number of steps in training.
        """
        return self

    def with_bounds(self, bounds: Sequence) -> "Pruner":
        """Return the pruner with bounds of the sparsity of each weight. Only called if `is_global` is True.

        Args:
            bounds: For each weight that `masks` gets a pair: the least sparsity, a float tensor in [0, 1), and the
                largest, a number in [0, 1]; or None for a weight without bounds.
        """
        raise NotImplementedError(f"{self!r} knows no bounds of single weights: leave them out.")

    def forward(self, weights: Sequence, masks: Sequence) -> list:
        """Return what the model's variables hold. Only called if `straight_through` is True.

        Args:
            weights: The hidden dense weights.
            masks: Their masks.

        Returns:
            Tensors of the same shapes that are 0 where the mask is 0.
        """
        return [backend_ops.masked(w, m) for w, m in zip(weights, masks, strict=True)]

    def backward(self, gradient, mask):
        """Return the gradient of a hidden dense weight. Only called if `straight_through` is True.

        Args:
            gradient: Gradient of what the model's variable holds.
            mask: Mask of the weight.
        """
        return gradient

    def allocate(self, shapes: Sequence[tuple], sparsity: float) -> list[float]:
        """Return the sparsity of each weight at the end of training.

        Args:
            shapes: Shapes of the weights.
            sparsity: Fraction of zeros that all weights together shall have.
        """
        return [sparsity] * len(shapes)

    def num_prunable(self, shape: tuple, sparsity: float) -> int:
        """Return how many entries of a weight are pruned at a sparsity; 0 if the pruner cannot prune such a weight.

        Args:
            shape: Shape of the weight.
            sparsity: Fraction in [0, 1).
        """
        return topk.num_pruned(float(sparsity), math.prod(shape))

    def num_prunable_together(self, shapes: Sequence[tuple], sparsity: float) -> list[int]:
        """Return how many entries of each weight are pruned when all of them have one sparsity.

        If `is_global` is True only the sum counts.

        Args:
            shapes: Shapes of the weights.
            sparsity: Fraction in [0, 1).
        """
        return [self.num_prunable(shape, sparsity) for shape in shapes]

    def entries_per_unit(self, shape: tuple) -> int:
        """Return how many entries of a weight are pruned together.

        With a global scope the number of zeros of all weights together is met to within one unit.
        """
        return 1

    @property
    def is_global(self) -> bool:
        """True if the weights compete with each other, so that only their common sparsity is given."""
        return False


pruners = Registry("pruner", Pruner)
get = pruners.get
names = pruners.names


class ScorePruner(Pruner):
    """Base of the pruners that rank weights by a score. A subclass writes `score`.

        scope="global":  mask = 1 for the size - num_pruned highest scores of all weights together, else 0
        scope="layer":   the same for the scores of each weight

    Ties: entries that were kept until now come first, then entries with a lower index.

    Args:
        granularity: What is pruned together: "weight", "channel", a block `(outputs, inputs)`, "n:m" such as "2:4", or
            `{"dense": ..., "conv": ...}` of two of these: one for kernels of rank 2, one for all others. Default:
            "weight".
        scope: "global": one threshold for all weights. "layer": each weight reaches its own sparsity. Default: None,
            which is "global", or "layer" with an allocation.
        allocation: How the sparsity of scope="layer" is spread over the weights: "uniform", or "erk" (see
            `tfsparse.pruners.allocation.erk`). Default: "uniform".

    Raises:
        ValueError: If an argument is none of these, or for scope="global" with an allocation.
    """

    def __init__(self, granularity="weight", scope: str | None = None, allocation: str = "uniform"):
        self._granularity = granularities.get(granularity)
        check_choice("allocation", allocation, ("uniform", "erk"))
        scope = scope or ("global" if allocation == "uniform" else "layer")
        check_choice("scope", scope, ("layer", "global"))
        if scope == "global" and allocation != "uniform":
            raise ValueError(
                f'scope="global" finds its own allocation, so allocation={allocation!r} has no meaning: '
                'drop one of them, for example Magnitude(allocation="erk").'
            )
        self.granularity, self.scope, self.allocation = granularities.to_config(granularity), scope, allocation
        self._bounds = None

    @abc.abstractmethod
    def score(self, weight, gradient, mask):
        """Return how important each entry of a weight is.

        Args:
            weight: Tensor, zero where it is pruned.
            gradient: Tensor of the same shape, or None unless `needs_gradients` is True.
            mask: Tensor of the same shape: 1 is kept, 0 is pruned.

        Returns:
            Float tensor of the same shape, >= 0. Entries with a higher score are kept. If `monotone` is True, pruned
            entries must have the lowest score.
        """

    def scores(self, weights, gradients, masks) -> list:
        """Return the scores of all weights."""
        return [self.score(w, g, m) for w, g, m in zip(weights, gradients, masks, strict=True)]

    def masks(self, weights, gradients, masks, num_pruned):
        units = [self._granularity.for_shape(m.shape) for m in masks]
        scores = self.scores(weights, gradients, masks)
        scores = [u.break_ties(s, m) for u, s, m in zip(units, scores, masks, strict=True)]
        pooled = [u.pool(s) for u, s in zip(units, scores, strict=True)]
        kept = [u.pool(m) for u, m in zip(units, masks, strict=True)]
        shapes = [tuple(m.shape) for m in masks]
        counts = [_at_most(u.max_zeros(s), n) for u, s, n in zip(units, shapes, num_pruned, strict=True)]
        if self.is_global and len(units) > 1:  # one weight alone reaches the nearest count with any units
            bounds = self._bounds or [None] * len(units)
            unit_masks = _prune_lowest_globally(units, pooled, counts, kept, shapes, bounds)
        else:
            unit_masks = _prune_lowest(units, pooled, counts, kept, shapes)
        expanded = [u.expand(x, s) for u, x, s in zip(units, unit_masks, scores, strict=True)]
        return [ops.cast(x, m.dtype) for x, m in zip(expanded, masks, strict=True)]

    def with_bounds(self, bounds):
        bounded = copy.copy(self)
        bounded._bounds = list(bounds)
        return bounded

    def allocate(self, shapes, sparsity):
        return erk(shapes, sparsity) if self.allocation == "erk" else super().allocate(shapes, sparsity)

    def num_prunable(self, shape, sparsity):
        shape = tuple(shape)
        units = self._granularity.for_shape(shape)
        if units.num_units(shape) == 0:
            return 0
        limit = units.max_sparsity(shape)
        if sparsity > limit + 1e-9:
            raise ValueError(
                f"sparsity={sparsity:g}: granularity={self.granularity!r} reaches at most {limit:g} in a kernel of "
                f"shape {shape}: write sparsity={limit:g}."
            )
        return units.nearest_count(shape, sparsity * math.prod(shape))

    def num_prunable_together(self, shapes, sparsity):
        if not self.is_global:
            return super().num_prunable_together(shapes, sparsity)
        sizes, counts, carried = [math.prod(shape) for shape in shapes], [0] * len(shapes), 0
        split = topk.split_proportionally(topk.num_pruned(float(sparsity), sum(sizes)), sizes)
        # what whole units leave over goes on to smaller ones
        for i in sorted(range(len(shapes)), key=lambda i: -self.entries_per_unit(shapes[i])):
            wanted = int(split[i]) + carried
            counts[i] = self._granularity.for_shape(shapes[i]).nearest_count(tuple(shapes[i]), wanted)
            carried = wanted - counts[i]
        return counts

    def entries_per_unit(self, shape):
        return self._granularity.for_shape(shape).entries_per_unit(tuple(shape))

    @property
    def is_global(self):
        return self.scope == "global"


def _at_most(limit, count):
    return min(int(count), limit) if isinstance(count, numbers.Integral) else ops.minimum(count, limit)


def _prune_lowest(units, pooled, num_pruned, kept, shapes):
    """Return the masks of the units of each weight."""
    return [u.prune_lowest(*each) for u, *each in zip(units, pooled, num_pruned, kept, shapes, strict=True)]


def _prune_lowest_globally(units, pooled, num_pruned, kept, shapes, bounds):
    """Return the masks of the units of all weights with one threshold, within the bounds of each weight."""
    parts = [u.parts(shape) for u, shape in zip(units, shapes, strict=True)]
    scores = [x for u, p, shape in zip(units, pooled, shapes, strict=True) for x in u.split(p, shape)]
    masks = [x for u, k, shape in zip(units, kept, shapes, strict=True) for x in u.split(k, shape)]
    totals = [_whole_units(count, p) for count, p in zip(num_pruned, parts, strict=True)]
    limits = [n for u, shape, p in zip(units, shapes, parts, strict=True) for n in _limits(u, shape, p)]
    sizes = [part.entries_per_unit for p in parts for part in p]
    largest = topk.max_pruned_by_default(totals, limits, sizes)
    own = [(bound, part.num_units) for p, bound in zip(parts, bounds, strict=True) for part in p]
    least, largest = zip(*(_bounds(*each) for each in zip(own, limits, largest, strict=True)), strict=True)
    found = iter(topk.prune_lowest_globally(scores, totals, largest, sizes, masks, least))
    return [u.join([next(found) for _ in p], shape) for u, shape, p in zip(units, shapes, parts, strict=True)]


def _whole_units(count, parts):
    """Return the nearest number of entries of whole units, if all units have one size."""
    size = parts[0].entries_per_unit
    return count if len(parts) > 1 else granularities.nearest_units(count, size) * size


def _bounds(own, limit, by_default):
    """Return the least and the largest number of units to prune: the user's bounds, or None and the default."""
    bound, num_units = own
    if bound is None:
        return None, by_default
    least = ops.cast(ops.ceil(bound[0] * num_units - _ROUND_OFF), "int32")
    most = by_default if bound[1] == 1 else int(bound[1] * num_units + _ROUND_OFF)
    return least, ops.minimum(ops.maximum(most, least), limit)


def _limits(units, shape, parts):
    """Return for each part how many of its units may be pruned, so that the weight is not emptied."""
    if len(parts) == 1:
        return [units.max_pruned_units(shape)]
    num_units = [part.num_units for part in parts]
    return [n - (i == num_units.index(max(num_units))) for i, n in enumerate(num_units)]
