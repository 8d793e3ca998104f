"""Several sparsities trained at once: the target first, then at every step one of them."""

from collections.abc import Sequence

from keras import ops

from tfsparse.backend import hashing
from tfsparse.schedules.schedule import Schedule, check_ends_at, check_levels, schedules

_ROUND_OFF = 1e-3  # of a step: in float32 0.2 * 1000 is slightly more than 200


@schedules.register
class Nested(Schedule):
    """Train several sparsities in one training: `tfsparse.at` then cuts the model to any of them, or between them.

        until `levels_from`:  sparsity = target * (1 - (1 - min(t / ramp, 1)) ** 3)
        then, once:           dense = weights                              what is pruned starts again from zero
        from then on:         sparsity = a level that is drawn             every step of a round has another one
                              gradients of pruned weights = 0
        at the last step:     sparsity = target

    The first part finds the weights that the sparsest level needs, the second part adds to them. A round is as many
    steps as there are levels. Each level trains only the weights that it uses. A step costs one forward and one
    backward pass, as in any training. The pruner must keep dense weights, as `Feather` does.

    Validation during the second part sees whichever level the epoch's last step has; `logs["sparsity"]` says which.

    Args:
        levels: Sparsities to train, ascending, at least two of them, in [0, 1). The last is the target, the `sparsity`
            of `Prune` or `SparseOptimizer`. Default: (0.0, 0.5, 0.8, 0.9, 0.95, 0.98).
        ramp: Fraction of training over which the sparsity rises from 0 to the target, in [0, levels_from]. Default:
            0.3.
        levels_from: Fraction of training from which levels are drawn, in [0, 1). Default: 0.5.
        seed: Seed of the order of the levels, an int >= 0. Default: 0.

    Raises:
        ValueError: If the levels are no ascending sparsities, or if another argument is out of range; and in `Prune`,
            if the target is not the last level or the pruner does not keep dense weights.

    Source:
        Several networks in one, one of them per step: Yu et al., "Slimmable Neural Networks" (ICLR 2019), with
        sparsities for widths. The ramp: Zhu and Gupta, "To prune, or not to prune" (2017). The order from sparse to
        dense is our own.

    Examples:
        >>> levels = tfsparse.Nested([0.0, 0.5, 0.8, 0.9, 0.95, 0.98])
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(levels, 0.98, "feather")])
        >>> small = tfsparse.at(model, 0.9)
    """

    def __init__(
        self,
        levels: Sequence[float] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98),
        *,
        ramp: float = 0.3,
        levels_from: float = 0.5,
        seed: int = 0,
    ):
        super().__init__(0.0, 1.0, updates=None)
        if not 0 <= ramp <= levels_from < 1:
            raise ValueError(
                f"Nested got ramp={ramp!r}, levels_from={levels_from!r}: expected fractions of training with "
                "0 <= ramp <= levels_from < 1, such as Nested(ramp=0.3, levels_from=0.5)."
            )
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"Nested got seed={seed!r}: expected a whole number of at least 0, such as seed=0.")
        self.levels = check_levels("Nested", levels, 2)
        self.ramp, self.levels_from, self.seed = ramp, levels_from, seed

    def progress(self, p):
        return 1 - (1 - ops.minimum(p / max(self.ramp, 1e-9), 1.0)) ** 3

    def fraction(self, step, total):
        step, total = ops.cast(step, "int32"), ops.cast(total, "int32")
        draws = ops.logical_and(step > self.num_target_steps(total), step < total)
        return ops.where(draws, self._level(step) / self.levels[-1], super().fraction(step, total))

    def num_target_steps(self, total):
        """Return the number of steps before levels are drawn.

        Args:
            total: Number of steps in training.
        """
        return ops.cast(ops.floor(self.levels_from * ops.cast(total, "float32") + _ROUND_OFF), "int32")

    def check_target(self, sparsity, pruner):
        check_ends_at(self, sparsity)
        if not pruner.straight_through:
            raise ValueError(
                f"{pruner!r} sets pruned weights to zero, so the levels of {self!r} would have nothing to share: "
                'write pruner="feather".'
            )

    def _level(self, step):
        """Return the level of a step: the one at the rank of the step's hash among the hashes of its round."""
        size = len(self.levels)
        steps = ops.expand_dims(ops.floor_divide(step, size) * size, -1) + ops.arange(size, dtype="int32")
        is_lower = self._hash(steps) < ops.expand_dims(self._hash(step), -1)
        return ops.take(ops.convert_to_tensor(self.levels, "float32"), ops.sum(ops.cast(is_lower, "int32"), axis=-1))

    def _hash(self, step):
        """Return a whole number in [0, 2^24) as float32."""
        bits = hashing.mix32(ops.cast(step, "uint32") + hashing.mix32(ops.cast(self.seed + 1, "uint32")))
        return ops.cast(ops.right_shift(bits, ops.cast(8, "uint32")), "float32")
