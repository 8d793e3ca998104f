"""Sparse-to-sparse training: some weights are dropped at every update and as many grow elsewhere."""

import abc
import copy
import math

from keras import ops

from tfsparse.backend.hashing import hash_uniform
from tfsparse.masks import topk
from tfsparse.pruners.pruner import ScorePruner

_ROUND_UP = 1 + 1e-6  # float32 writes 0.15 * 20 as a hair less than 3


class DropAndGrow(ScorePruner):
    """Base of the pruners that keep the sparsity and exchange weights; a new method writes only `growth`.

        n = size - round(sparsity * size);  k = floor(fraction(step / total) * n)
        kept = the n - k largest |w| of the living;  masks = kept and the k best of all others by `growth`

    What was just dropped may grow again and then keeps its value; all else grows from 0 with empty optimizer slots. A
    dense network first becomes a random sparse one. Weights must be looked at all through training:
    `Prune("constant", ...)`. A pruner that was not told the time (`at`) drops no more than the sparsity asks for.

    Args:
        granularity: "weight", "channel", a block (outputs, inputs), or {"dense": ..., "conv": ...} of two of these.
        scope: "layer"; there is no other.
        allocation: "erk" or "uniform".
        drop_fraction: of the living, exchanged at the first update, in (0, 1]; falls as half a cosine.
        end: fraction of training in (0, 1] from which nothing is exchanged.
        seed: of everything random.

    Raises: ValueError for anything else.
    """

    monotone = False

    def __init__(
        self,
        granularity="weight",
        scope: str = "layer",
        allocation: str = "erk",
        drop_fraction: float = 0.3,
        end: float = 0.75,
        seed: int = 0,
    ):
        self._check_scope(scope)
        super().__init__(granularity, scope, allocation)
        self._check_granularity()
        self.drop_fraction = self._check_share("drop_fraction", drop_fraction)
        self.end, self.seed = self._check_share("end", end), seed
        self._step, self._exchanged = 0, 0.0

    @abc.abstractmethod
    def growth(self, gradient, mask, place: int):
        """How much each entry deserves to grow, float32 >= 0 of the mask's shape; `place` counts the weights."""

    def fraction(self, t):
        """The share of the living that an update at fraction `t` of training exchanges.

            drop_fraction / 2 * (1 + cos(pi t / end)), and 0 from `end` on
        """
        return self.drop_fraction / 2 * (1 + ops.cos(math.pi * ops.minimum(t / self.end, 1.0)))

    def at_step(self, step, total):
        now = copy.copy(self)
        now._step, now._exchanged = step, self.fraction(ops.cast(step, "float32") / ops.cast(total, "float32"))
        return now

    def score(self, weight, gradient, mask):
        return ops.abs(weight) * mask

    def masks(self, weights, gradients, masks, num_pruned):
        entries = zip(weights, gradients, masks, num_pruned, strict=True)
        return [self._mask(*each, place) for place, each in enumerate(entries)]

    def _mask(self, weight, gradient, mask, num_pruned, place):
        living, scores = self._units.pool(mask) > 0, self._units.pool(self.score(weight, gradient, mask))
        count = ops.cast(self._num_units(mask.shape, num_pruned), "int32")
        ranks = self._ranks(living, scores, self._units.pool(self.growth(gradient, mask, place)), count)
        dense = ops.logical_and(ops.all(living), count > 0)
        ranks = ops.where(dense, hash_uniform(living.shape, self.seed, place, self._step), ranks)
        chosen = topk.prune_lowest([ranks], [count], [ops.cast(living, "float32")])[0]
        return ops.cast(self._units.expand(chosen, mask), mask.dtype)

    def _ranks(self, living, scores, growth, count):
        """What is kept before everything else, which ranks by growth."""
        n = ops.cast(math.prod(living.shape) - count, "float32")
        dropped = ops.cast(ops.floor(self._exchanged * n * _ROUND_UP), "int32")
        large = topk.prune_lowest([scores], [count + dropped], [ops.cast(living, "float32")])[0]
        return ops.where(ops.logical_and(large > 0, living), math.inf, ops.cast(growth, "float32"))

    def _check_scope(self, scope):
        if scope == "global":
            raise ValueError(
                f'{type(self).__name__} got scope="global": expected "layer", since a layer grows what it drops. '
                f'For densities that differ by layer write {type(self).__name__}(allocation="erk").'
            )

    def _check_granularity(self):
        if self._units.has_pattern:
            raise ValueError(
                f"{type(self).__name__} got granularity={self.granularity!r}, a fixed pattern: expected "
                f'"weight", "channel" or a block (outputs, inputs), as in {type(self).__name__}("weight").'
            )

    def _check_share(self, what, value):
        if not 0 < value <= 1:
            raise ValueError(
                f"{type(self).__name__} got {what}={value!r}: expected a fraction in (0, 1], for example {what}=0.3."
            )
        return value
