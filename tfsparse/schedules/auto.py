"""Levels of sparsity that are tried one after the other, until validation no longer allows the next one."""

import math
from collections.abc import Sequence

from keras import ops

from tfsparse.schedules.one_cycle import OneCycle
from tfsparse.schedules.schedule import Schedule, check_levels, schedules

_LEVELS = (0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375, 0.9921875)


@schedules.register
class Auto(Schedule):
    """Find the highest sparsity at which validation holds, and train on at it: `Prune(sparsity="auto")`.

        until `dense_until`:          dense
        at the end of every epoch:    limit = best metric of the epochs before + half of its recent rise - drop
            metric >= limit:          the level holds; try the next one, until one has missed the limit
            metric < limit:           the level misses, if it had its share of epochs; go back, and try the middle
                                      between it and the level that held, if they are more than `resolution` apart
        at `search_until`, or when nothing is left to try:
                                      train on at the highest level that held

    A higher level is pruned in the first steps of the next epoch, so a checkpoint of this epoch is the model that was
    validated. Going back gives pruned weights the values that they had when the lower level held. Levels share the
    epochs between `dense_until` and `search_until` evenly; each has at least one. If nothing else is left to try, a
    level has half of the epochs that are left.

    The recent rise is the mean rise of the best metric in an epoch; an epoch weighs half as much as the next one. So a
    level misses if the network stops learning at it, also while a dense network would still learn. After the search the
    limit is best - drop. The limit is an estimate: a dense network that is trained to the end may do better.

    It needs `Prune`, which reads the validation. In a training loop of your own it prunes to the last level at once.

    Args:
        levels: Sparsities to try, ascending, in (0, 1). Default: 0.5, 0.75, 0.875 and so on: each halves what is left,
            up to 0.992.
        drop: Largest loss of the metric, in its units, >= 0: 0.005 is half a point of accuracy. Default: 0.005.
        metric: Name of a compiled metric of which more is better, or "loss". Default: None, "accuracy" if there is such
            a metric, else "loss".
        dense_until: Fraction of training before which nothing is pruned, in (0, search_until). Default: 0.2.
        search_until: Fraction of training at which the search ends, in (dense_until, 1). Default: 0.8.
        resolution: Sparsity between the highest level that held and the lowest that missed at which the search ends,
            > 0. Default: 0.02.
        updates: Largest number of mask updates in training, or None for an update at every step. Default: 1000.

    Raises:
        ValueError: If the levels are no ascending sparsities, or if another argument is out of range.

    Source:
        The order of levels is iterative magnitude pruning: Han et al., "Learning both Weights and Connections for
        Efficient Neural Networks" (NIPS 2015). The search is our own.

    Examples:
        >>> model.fit(x, y, validation_split=0.1, epochs=10, callbacks=[tfsparse.Prune(sparsity="auto", drop=0.005)])
        >>> levels = tfsparse.Auto([0.8, 0.9, 0.95], drop=0.01, dense_until=0.3)
        >>> model.fit(x, y, validation_split=0.1, epochs=10, callbacks=[tfsparse.Prune(levels, "auto")])
    """

    def __init__(
        self,
        levels: Sequence[float] = _LEVELS,
        *,
        drop: float = 0.005,
        metric: str | None = None,
        dense_until: float = 0.2,
        search_until: float = 0.8,
        resolution: float = 0.02,
        updates: int | None = 1000,
    ):
        super().__init__(0.0, 1.0, updates=updates)
        if not 0 < dense_until < search_until < 1:
            raise ValueError(
                f"Auto got dense_until={dense_until!r}, search_until={search_until!r}: expected fractions of training "
                "with 0 < dense_until < search_until < 1, such as Auto(dense_until=0.2, search_until=0.8)."
            )
        if not 0 < resolution < 1:
            raise ValueError(f"Auto got resolution={resolution!r}: expected a sparsity in (0, 1), such as 0.02.")
        self.levels = _check_levels(levels)
        self.drop, self.metric = _check_drop(drop, metric), metric
        self.dense_until, self.search_until, self.resolution = dense_until, search_until, resolution

    def progress(self, p):
        return ops.ones_like(p)

    def check_target(self, sparsity, pruner):
        if abs(sparsity - self.levels[-1]) > 1e-9:
            raise ValueError(f'sparsity={sparsity:g}, but {self!r} finds the sparsity: write sparsity="auto".')

    def next_level(self, held: float, missed: float) -> float | None:
        """Return the level to try after others, or None if the search ends.

        Args:
            held: The highest sparsity that held; 0 if only the dense network did.
            missed: The lowest sparsity that missed the limit; 1 if none did.
        """
        if missed >= 1:
            return next((level for level in self.levels if level > held + 1e-6), None)
        return round((held + missed) / 2, 6) if missed - held > self.resolution + 1e-6 else None

    def num_epochs(self, level: float, num_left: int) -> int:
        """Return the epochs that a level may take before it is judged.

        Args:
            level: The sparsity on trial.
            num_left: Epochs between the beginning of its trial and the end of the search.
        """
        num_levels = sum(above >= level - 1e-6 for above in self.levels) + 2  # about two more between levels
        return max(num_left // num_levels, 1)


def for_prune(schedule, sparsity, drop: float | None) -> tuple:
    """Return the schedule and the sparsity that the arguments of `Prune` mean.

        sparsity="auto":  Auto, and its last level

    Args:
        schedule: A schedule, its name or its config.
        sparsity: A number or "auto".
        drop: As `Auto` takes it, or None.

    Raises:
        ValueError: If `drop` has no meaning.
    """
    chosen = schedules.get(schedule)
    if sparsity != "auto":
        if drop is not None:
            raise ValueError(f'drop={drop!r} belongs to sparsity="auto": write sparsity="auto", or leave drop out.')
        return chosen, sparsity
    if chosen == OneCycle():  # the default of Prune
        chosen = Auto()
    if not isinstance(chosen, Auto):
        raise ValueError(
            f'sparsity="auto" decides itself when to prune, and so does {chosen!r}: leave the schedule out, or write '
            "tfsparse.Auto(...)."
        )
    if drop is not None:
        chosen = Auto.from_config(chosen.get_config() | {"drop": drop})
    return chosen, chosen.levels[-1]


def _check_levels(levels):
    values = check_levels("Auto", levels, 1)
    if values[0] == 0:
        raise ValueError(f"Auto got levels={levels!r}: training begins dense; leave out 0.")
    return values


def _check_drop(drop, metric):
    if isinstance(drop, bool) or not isinstance(drop, (int, float)) or not 0 <= drop < math.inf:
        raise ValueError(f"drop={drop!r}: expected a number >= 0 in units of the metric, such as drop=0.005.")
    if metric != "loss" and drop >= 0.5:
        raise ValueError(
            f"drop={drop!r} is in units of the metric: half a point of accuracy is drop=0.005. "
            f'Did you mean drop={drop / 100:g}? For a drop of the loss write Auto(drop={drop:g}, metric="loss").'
        )
    return drop
