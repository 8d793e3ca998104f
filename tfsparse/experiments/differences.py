"""Differences between methods that were trained with the same seeds."""

import dataclasses
import math
import statistics
from collections.abc import Mapping

from scipy import stats


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean of differences by seed, and the t interval of that mean.

    Attributes:
        mean: The mean.
        n: Number of seeds that both methods have.
        margin: Half of the width of the interval; None with one seed, which says nothing about noise.
    """

    mean: float
    n: int
    margin: float | None

    @property
    def is_noise(self) -> bool:
        """Whether zero is in the interval: the difference may be chance. One seed has no interval, and cannot tell."""
        return self.margin is not None and abs(self.mean) <= self.margin

    def text(self, digits: int = 4) -> str:
        """Return `-0.0034 ± 0.0016`, or `-0.0034 (n = 1)` if there is no interval."""
        margin = " (n = 1)" if self.margin is None else f" ± {self.margin:.{digits}f}"
        return f"{self.mean:+.{digits}f}{margin}"

    def marked(self, digits: int = 4) -> str:
        """Return `text`, followed by ` ~` if zero is in the interval."""
        return self.text(digits) + " ~" * self.is_noise


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], confidence: float = 0.95) -> Difference | None:
    """Return the mean difference of two methods over the seeds that both have.

        d[seed] = ours[seed] - theirs[seed]
        margin = t(n - 1) * sample standard deviation(d) / sqrt(n)

    Args:
        ours: `{seed: figure}` of one method.
        theirs: `{seed: figure}` of the other method.
        confidence: Probability that the interval covers the true mean, in (0, 1). Default: 0.95.

    Returns:
        The difference; None if the methods share no seed.

    Examples:
        >>> paired({0: 0.97, 1: 0.98}, {0: 0.96, 1: 0.96}).text()
        '+0.0150 ± 0.0635'
    """
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    n = len(differences)
    if n < 2:
        return Difference(differences[0], n, None) if differences else None
    quantile = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    return Difference(statistics.fmean(differences), n, quantile * statistics.stdev(differences) / math.sqrt(n))
