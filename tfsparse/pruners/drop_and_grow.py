"""Base of the pruners that train a sparse network and exchange its weights: dynamic sparse training."""

import abc
import copy
import math

from keras import ops

from tfsparse.backend.hashing import hash_uniform
from tfsparse.masks import wide_counts
from tfsparse.masks.granularity import nearest_units
from tfsparse.pruners.pruner import ScorePruner

_ROUND_UP = 1 + 1e-6  # in float32 0.15 * 20 is slightly less than 3


class DropAndGrow(ScorePruner):
    """Base of the pruners that keep the sparsity and exchange weights. A subclass writes `growth`.

        n = size - num_pruned;  k = floor(exchanged_fraction(step / total) * n)
        kept = the n - k largest |w| of the weights that are not pruned
        mask = 1 for kept, and for the k highest `growth` of all other entries

    A weight that was just dropped may grow again; then it keeps its value. All others grow from 0 with empty optimizer
    slots. A dense network first becomes a random sparse one.

    The masks must be updated during all of training, so use the schedule "constant". If `at_step` was not called, no
    weights are exchanged: only the requested number is pruned.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, or `{"dense": ..., "conv": ...}` of two of these.
            Default: "weight".
        scope: "layer", the only choice.
        allocation: "erk" or "uniform". Default: "erk".
        drop_fraction: Fraction of the kept weights that the first update exchanges, in (0, 1]. It falls as half a
            cosine. Default: 0.3.
        end: Fraction of training from which nothing is exchanged, in (0, 1]. Default: 0.75.
        seed: Seed of all random choices. Default: 0.

    Raises:
        ValueError: If an argument is none of these.
    """

    monotone = False

    def __init__(
        self,
        granularity="weight",
        scope: str = "layer",
        allocation: str = "erk",
        *,
        drop_fraction: float = 0.3,
        end: float = 0.75,
        seed: int = 0,
    ):
        name = type(self).__name__
        if scope == "global":
            raise ValueError(
                f'{name} got scope="global": expected "layer", since a layer grows what it drops. '
                f'For densities that differ by layer write {name}(allocation="erk").'
            )
        super().__init__(granularity, scope, allocation)
        if self._granularity.has_pattern:
            raise ValueError(
                f"{name} got granularity={self.granularity!r}, a fixed pattern: expected "
                f'"weight", "channel" or a block (outputs, inputs), as in {name}("weight").'
            )
        for what, value in (("drop_fraction", drop_fraction), ("end", end)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} got {what}={value!r}: expected a fraction in (0, 1], for example {what}=0.3.")
        self.drop_fraction, self.end, self.seed = drop_fraction, end, seed
        self._step, self._exchanged = 0, 0.0

    @abc.abstractmethod
    def growth(self, gradient, mask, index: int):
        """Return how much each entry of a weight deserves to grow.

        Args:
            gradient: Gradient of the weight, or None unless `needs_gradients` is True.
            mask: Mask of the weight until now.
            index: Position of the weight among those that are pruned.

        Returns:
            Float32 tensor >= 0 of the mask's shape. Entries with a higher value grow.
        """

    def exchanged_fraction(self, t):
        """Return the fraction of the kept weights that an update exchanges.

            drop_fraction / 2 * (1 + cos(pi t / end))    for t < end, else 0

        Args:
            t: Fraction of training at which the update is.
        """
        return self.drop_fraction / 2 * (1 + ops.cos(math.pi * ops.minimum(t / self.end, 1.0)))

    def at_step(self, step, total):
        pruner = copy.copy(self)
        t = ops.cast(step, "float32") / ops.cast(total, "float32")
        pruner._step, pruner._exchanged = step, self.exchanged_fraction(t)
        return pruner

    def score(self, weight, gradient, mask):
        return ops.abs(weight) * mask

    def masks(self, weights, gradients, masks, num_pruned):
        counts = ops.unstack(wide_counts.as_vector(num_pruned))
        arguments = zip(weights, gradients, masks, counts, strict=True)
        return (self._mask(*each, index) for index, each in enumerate(arguments))

    def _mask(self, weight, gradient, mask, num_pruned, index):
        shape, mask = tuple(mask.shape), ops.cast(mask, weight.dtype)
        units = self._granularity.for_shape(shape)
        kept, scores = units.pool_mask(mask) > 0, units.pool(self.score(weight, gradient, mask))
        count = ops.minimum(num_pruned, units.max_zeros(shape))
        ranks = self._ranks(units, kept, scores, units.pool(self.growth(gradient, mask, index)), count, shape)
        is_dense = ops.logical_and(ops.all(kept), count > 0)
        ranks = ops.where(is_dense, hash_uniform(kept.shape, self.seed, index, self._step), ranks)
        unit_mask = units.prune_lowest(ranks, count, ops.cast(kept, "float32"), shape)
        return units.expand(unit_mask, mask)

    def _ranks(self, units, kept, scores, growth, count, shape):
        """Return infinity for the units that are not dropped, and the growth of all others."""
        size = units.entries_per_unit(shape)
        num_kept = ops.cast(math.prod(kept.shape) - nearest_units(count, size), "float32")
        num_dropped = ops.cast(ops.floor(self._exchanged * num_kept * _ROUND_UP), "int32")
        large = units.prune_lowest(scores, count + num_dropped * size, ops.cast(kept, "float32"), shape)
        return ops.where(ops.logical_and(large > 0, kept), math.inf, ops.cast(growth, "float32"))
