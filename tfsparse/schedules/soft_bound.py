"""MEST's soft memory bound: less sparse than the target early in training, in steps."""

from collections.abc import Sequence

from keras import ops

from tfsparse.schedules.schedule import Schedule, check_ends_at, check_levels, schedules


@schedules.register
class SoftBound(Schedule):
    """Keep more weights than the target early in training, and prune to the target in steps.

        sparsity(t) = levels[number of boundaries <= t]

    For `SET` and `RigL`: the weights beyond the target compete before they are dropped. All weights together need more
    memory than at the target until the last boundary is reached.

    Args:
        levels: Sparsities, ascending, at least two of them, in [0, 1). The last is the target, the `sparsity` of
            `Prune` or `SparseOptimizer`. Default: (0.85, 0.875, 0.9), the authors' for 90 %. For 95 % they use
            (0.9, 0.925, 0.95).
        boundaries: Ascending fractions of training in (0, 1), one fewer than levels, from which the next level holds.
            Default: (0.5625, 0.75), the authors' epochs 90 and 120 of 160.
        updates: Number of mask updates in training, or None for an update at every step. Default: 100.

    Raises:
        ValueError: If the levels are no ascending sparsities, the boundaries no ascending fractions, or their numbers
            do not fit; and in `Prune`, if the target is not the last level.

    Source:
        Yuan et al., "MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge" (NeurIPS 2021),
        EM&S. There each update keeps as many weights as at the target and grows the others at random: in the first
        phase a third of them, then a fifth. With `SET` this fraction falls as half a cosine instead, which
        `drop_fraction=1/3` lets begin at a third.

    Examples:
        >>> pruner = tfsparse.SET(allocation="uniform", drop_fraction=1 / 3)
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("soft_bound", 0.9, pruner)])
    """

    def __init__(
        self,
        levels: Sequence[float] = (0.85, 0.875, 0.9),
        boundaries: Sequence[float] = (0.5625, 0.75),
        updates: int | None = 100,
    ):
        super().__init__(0.0, 1.0, updates=updates)
        self.levels, self.boundaries = check_levels("SoftBound", levels, 2), tuple(boundaries)
        ascending = [*self.boundaries] == sorted({*self.boundaries}) and all(0 < b < 1 for b in self.boundaries)
        if not ascending or len(self.boundaries) != len(self.levels) - 1:
            raise ValueError(
                f"SoftBound got boundaries={boundaries!r} for {len(self.levels)} levels: expected "
                f"{len(self.levels) - 1} ascending fractions of training in (0, 1), one for each further level: write "
                "SoftBound((0.85, 0.875, 0.9), (0.5, 0.75))."
            )

    def progress(self, p):
        p, sparsity = p + 1e-6, ops.ones_like(p) * self.levels[0]  # float32 may be slightly less than a boundary
        for boundary, level in zip(self.boundaries, self.levels[1:], strict=True):
            sparsity = ops.where(p >= boundary, level, sparsity)
        return sparsity / self.levels[-1]

    def check_target(self, sparsity, pruner):
        check_ends_at(self, sparsity)
