"""The contract of a pruner, and the base of all pruners that rank weights by a score."""

import abc
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.registry import Configurable, Registry, check_choice
from tfsparse.masks import granularity as granularities
from tfsparse.masks import topk, wide_counts
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
        accumulates: True if `masks` gets instead of gradients the sums over all steps of what `term` returns, or what
            `accumulate` makes of them. They are float32 variables of the optimizer. `needs_gradients` must be True,
            too.
        needs_calibration: True if the masks are computed once of a whole model: by `tfsparse.prune`, or by
            `tfsparse.Prune` before the first step. Such a pruner is a `tfsparse.pruners.CalibratedPruner`.
    """

    needs_gradients = False
    needs_calibration = False
    monotone = True
    straight_through = False
    accumulates = False

    @abc.abstractmethod
    def masks(self, weights: Sequence, gradients: Sequence, masks: Sequence, num_pruned: Sequence) -> Iterable:
        """Return or yield the new masks. Whoever yields them needs memory for one weight at a time.

        Args:
            weights: Tensors, zero where they are pruned.
            gradients: Tensors of the same shapes. None for each weight unless `needs_gradients` is True.
            masks: The masks until now: tensors of the same shapes, 1 is kept, 0 is pruned. They are uint8, and of the
                dtype of the weights on the TFMOT road; `ops.cast(mask, weight.dtype)` can be multiplied with a weight.
            num_pruned: For each weight the number of entries to prune, an int or an integer tensor.

        Returns:
            Tensors of zeros and ones with the shapes of `masks` and any dtype.
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

    def term(self, weight, gradient):
        """Return what a step adds to the sum of a weight. Only called if `accumulates` is True.

        Args:
            weight: The weight before the step; the hidden dense one if `straight_through` is True.
            gradient: Its gradient for the global batch.
        """
        raise NotImplementedError(f"{self!r} accumulates nothing: write `term`, or leave out `accumulates = True`.")

    def accumulate(self, sums: Sequence, weights: Sequence, gradients: Sequence, masks: Sequence) -> Iterable:
        """Return or yield the sums after a step. Only called if `accumulates` is True.

            sum = sum + term(weight, gradient)

        Args:
            sums: Float32 tensors of the shapes that `sum_shape` returns, zero before the first step.
            weights: The weights before the step; the hidden dense ones if `straight_through` is True.
            gradients: Their gradients for the global batch.
            masks: Their masks.
        """
        for total, weight, gradient in zip(sums, weights, gradients, strict=True):
            yield total + self.term(weight, gradient)

    def sum_shape(self, shape: tuple) -> tuple:
        """Return the shape of the sum of a weight. Only called if `accumulates` is True.

        Args:
            shape: Shape of the weight.
        """
        return shape

    def forward(self, weights: Sequence, masks: Sequence) -> Iterable:
        """Return or yield what the model's variables hold. Only called if `straight_through` is True.

        Args:
            weights: The hidden dense weights.
            masks: Their masks.

        Returns:
            Tensors of the same shapes that are 0 where the mask is 0.
        """
        return itertools.starmap(backend_ops.masked, zip(weights, masks, strict=True))

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

    Attributes:
        is_rounded_anew: True if the score adds products, which compiled code may round in another way each time. One
            threshold is then found in scores that are computed once and held, four bytes for each weight. Default:
            False.
    """

    is_rounded_anew = False

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

    def score_at(self, index: int, weight, gradient, mask):
        """Return `score(...)` of the weight at a position among those that are pruned."""
        return self.score(weight, gradient, mask)

    def masks(self, weights, gradients, masks, num_pruned):
        shapes = [tuple(m.shape) for m in masks]
        units = [self._granularity.for_shape(shape) for shape in shapes]
        limits = [u.max_zeros(shape) for u, shape in zip(units, shapes, strict=True)]
        counts = _at_most(limits, num_pruned)

        def scores(i):
            mask = ops.cast(masks[i], weights[i].dtype)
            return units[i].break_ties(self.score_at(i, weights[i], gradients[i], mask), mask)

        def pooled(i):
            return units[i].pool(scores(i))

        def kept(i):
            return units[i].pool_mask(masks[i])

        if self.is_global and len(units) > 1:  # one weight alone reaches the nearest count with any units
            scored = _Scored(pooled, kept, self.is_rounded_anew)
            unit_masks = _prune_lowest_globally(units, scored, counts, shapes, self._bounds)
        else:
            unit_masks = (
                u.prune_lowest(pooled(i), count, kept(i), shape)
                for i, (u, count, shape) in enumerate(zip(units, ops.unstack(counts), shapes, strict=True))
            )
        for i, unit_mask in enumerate(unit_masks):
            yield units[i].expand(unit_mask, scores(i))

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


def _at_most(limits, counts):
    return ops.minimum(wide_counts.as_vector(counts), np.array(limits, "int32"))


class _Scored(NamedTuple):
    """The units of some weights: functions of a weight's index, and whether scores may be rounded anew each time."""

    scores: Callable
    kept: Callable
    is_rounded_anew: bool


def _prune_lowest_globally(units, scored, num_pruned, shapes, bounds):
    """Yield the masks of the units of all weights with one threshold, within the bounds of each weight.

    Args:
        units: The granularity of each weight.
        scored: Scores of the units of each weight, and their mask until now.
        num_pruned: Int32 tensor, the number of entries to prune of each weight.
        shapes: Shapes of the weights.
        bounds: For each weight as `Pruner.with_bounds` gets them, or None.
    """
    parts = [u.parts(shape) for u, shape in zip(units, shapes, strict=True)]
    places = [(i, part.place) for i, p in enumerate(parts) for part in p]
    limits = [n for u, shape, p in zip(units, shapes, parts, strict=True) for n in _limits(u, shape, p)]
    sizes = [part.entries_per_unit for p in parts for part in p]
    total = _whole_units(num_pruned, parts)
    least, largest = None, topk.max_pruned_by_default(total, limits, sizes)
    if bounds is not None:
        own = [(bound, part.num_units) for p, bound in zip(parts, bounds, strict=True) for part in p]
        each = zip(own, limits, ops.unstack(largest), strict=True)
        least, largest = zip(*itertools.starmap(_bounds, each), strict=True)
        least = _at_most_together(total, least, sizes)
    # Few numbers, so computed once: in a compiled loop a mean may be rounded in another way than outside of it.
    held = [scored.is_rounded_anew or any(part.entries_per_unit > 1 for part in p) for p in parts]
    once = {i: scored.scores(i) for i, is_held in enumerate(held) if is_held}
    scores = _Parts(lambda i: once[i] if i in once else scored.scores(i), places)
    masks = _Parts(scored.kept, places)
    found = topk.prune_lowest_globally(scores, total, largest, sizes, masks, least)
    for u, shape, p in zip(units, shapes, parts, strict=True):
        yield u.join(list(itertools.islice(found, len(p))), shape)


class _Parts(Sequence):
    """The parts of some weights, each computed when it is asked for, so that not all are in memory."""

    def __init__(self, compute, places):
        self._compute, self._places = compute, places

    def __len__(self):
        return len(self._places)

    def __getitem__(self, position):
        index, place = self._places[position]
        units = self._compute(index)
        return units if place == (...,) else units[place]


def _whole_units(counts, parts):
    """Return the nearest numbers of entries of whole units, of those weights whose units all have one size."""
    sizes = np.array([p[0].entries_per_unit if len(p) == 1 else 1 for p in parts], "int32")
    return counts if np.all(sizes == 1) else granularities.nearest_units(counts, sizes) * sizes


def _bounds(own, limit, by_default):
    """Return the least and the largest number of units to prune: the user's bounds, or None and the default."""
    bound, num_units = own
    if bound is None:
        return None, by_default
    least = ops.cast(ops.ceil(bound[0] * num_units - _ROUND_OFF), "int32")
    most = by_default if bound[1] == 1 else int(bound[1] * num_units + _ROUND_OFF)
    return least, ops.minimum(ops.maximum(most, least), limit)


def _at_most_together(total, least, sizes):
    """Lower numbers of units, which were rounded up, by one each until together they have no more entries than total.

    Args:
        total: Int32 tensor whose sum is the number of entries.
        least: The numbers; None counts as 0.
        sizes: For each of them the entries of a unit.

    Returns:
        The lowered numbers, an int32 tensor.
    """
    least, sizes = wide_counts.as_vector(least), np.array(sizes, "int32")
    surplus = wide_counts.narrow(*wide_counts.add(least * sizes, *wide_counts.add(-total)))
    can_lose = ops.where(least > 0, sizes, 0)
    lost_before = ops.cumsum(can_lose) - can_lose
    return least - ops.cast(ops.logical_and(least > 0, lost_before < surplus), "int32")


def _limits(units, shape, parts):
    """Return for each part how many of its units may be pruned, so that the weight is not emptied."""
    if len(parts) == 1:
        return [units.max_pruned_units(shape)]
    num_units = [part.num_units for part in parts]
    return [n - (i == num_units.index(max(num_units))) for i, n in enumerate(num_units)]
