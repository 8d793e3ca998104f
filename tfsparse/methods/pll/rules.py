"""PLL's decisions: when pruning starts, and how many weights each pruning event prunes. Functions of numbers alone."""

import abc
import dataclasses
import math

from keras import ops

from tfsparse.backend.registry import Configurable, Registry, check_choice
from tfsparse.backend.variables import SavedNumbers


@dataclasses.dataclass
class Progress(SavedNumbers):
    """How far a training with PLL is. It is saved with the model as one float32 vector, in the order of the fields.

    Attributes:
        first_step: Optimizer step at which the training began.
        total_steps: Length of the training in optimizer steps; 0 if it is not known yet.
        last_check: Step of the last check, counted from `first_step`.
        mean_curvature: Moving average of the curvature, of `Peak`; NaN before the first measurement.
        peak_curvature: Largest `mean_curvature` so far.
        num_below_peak: Number of checks in a row at which `mean_curvature` was below the peak.
        start_step: Step of the first pruning event, counted from `first_step`; -1 before it.
        end_step: Step of the last pruning event, counted from `first_step`; -1 before it.
        num_idle: Number of events in a row whose rate admitted almost no weight.
        curvature: Curvature at the last measurement; NaN before the first.
        spent: Sum of the predicted rises of the loss, of `LossBudget`. Version 0.1 did not save it.
    """

    first_step: float = 0
    total_steps: float = 0
    last_check: float = 0
    mean_curvature: float = math.nan
    peak_curvature: float = 0
    num_below_peak: float = 0
    start_step: float = -1
    end_step: float = -1
    num_idle: float = 0
    curvature: float = math.nan
    spent: float = 0


def milestones(extra_state: dict) -> dict[str, float]:
    """Return the steps at which PLL's decisions took effect, for the page of a model.

    Args:
        extra_state: `{name: variable}`, the extra state of the model's optimizer.

    Returns:
        `{event: optimizer step}`, with -1 for an event that has not happened. Empty without PLL.
    """
    if "progress" not in extra_state:
        return {}
    progress = Progress.load(ops.convert_to_numpy(extra_state["progress"]))
    steps = {"pruning began": progress.start_step, "pruning ended": progress.end_step}
    return steps | {"training ends": progress.total_steps}


class Start(Configurable, abc.ABC):
    """Decides when pruning starts. It is asked at each check until it says so."""

    def needs_curvature(self, t: float) -> bool:
        """Return whether the largest eigenvalue must be measured at the fraction `t` of training."""
        return False

    @abc.abstractmethod
    def is_reached(self, progress: Progress, t: float, curvature: float) -> bool:
        """Return whether pruning starts now.

        Args:
            progress: State of the training. The rule may write the fields that it needs at the next check.
            t: Fraction of training that is done, in [0, 1].
            curvature: Magnitude of the Hessian's largest eigenvalue, or NaN if it was not measured.

        Returns:
            True to start.
        """


starts = Registry("start", Start)


@starts.register
class FixedStart(Start):
    """Start pruning at a fixed fraction of training, without measuring.

    Args:
        t: Fraction of training in [0, 1). Default: 0.1.

    Raises:
        ValueError: If `t` is not in this range.

    Examples:
        >>> tfsparse.PLL((x[:128], y[:128]), sparsity=0.9, start=FixedStart(0.2))
    """

    def __init__(self, t: float = 0.1):
        _check_range("t", t, 0, 1)
        self.t = t

    def is_reached(self, progress, t, curvature):
        return t >= self.t


@starts.register
class Peak(Start):
    """Start pruning when the curvature has fallen from its first peak.

        mean  = decay * mean + (1 - decay) * curvature
        peak  = max(peak, mean)
        start = (mean < (1 - drop) * peak in `patience` checks in a row and t >= earliest) or t >= latest

    A curvature that is not finite is ignored.

    Args:
        drop: Fraction in [0, 1) by which the mean must have fallen from its peak. Default: 0.1.
        patience: Number of checks in a row with such a mean, >= 1. Default: 1.
        decay: Weight of the earlier measurements in the mean, in [0, 1). Default: 0.5.
        earliest: Fraction of training in [0, latest) before which nothing is measured. Default: 0.0.
        latest: Fraction of training in [0, 1) at which pruning starts in any case. Default: 0.2.

    Raises:
        ValueError: If an argument is not in its range.

    Source:
        The abstract of Roulette (Zhong et al., 2021) says that the loss landscape decides. This rule is ours.

    Examples:
        >>> tfsparse.PLL((x[:128], y[:128]), sparsity=0.9, start=Peak(drop=0.2, latest=0.3))
    """

    def __init__(self, drop=0.1, patience: int = 1, decay=0.5, earliest=0.0, latest=0.2):
        _check_range("drop", drop, 0, 1)
        _check_range("decay", decay, 0, 1)
        _check_range("latest", latest, 0, 1)
        _check_range("earliest", earliest, 0, latest)
        if patience < 1:
            raise ValueError(f"patience={patience!r}: expected a number of checks >= 1, for example patience=2.")
        self.drop, self.patience, self.decay, self.earliest, self.latest = drop, patience, decay, earliest, latest

    @classmethod
    def from_config(cls, config):
        """Create the rule from its configuration. Version 0.1 called `decay` "memory"."""
        return super().from_config({"decay" if key == "memory" else key: value for key, value in config.items()})

    def needs_curvature(self, t):
        return t >= self.earliest

    def is_reached(self, progress, t, curvature):
        if math.isfinite(curvature):
            self._update(progress, curvature)
        return t >= self.latest or (t >= self.earliest and progress.num_below_peak >= self.patience)

    def _update(self, progress, curvature):
        mean = progress.mean_curvature
        progress.mean_curvature = self.decay * mean + (1 - self.decay) * curvature if math.isfinite(mean) else curvature
        progress.peak_curvature = max(progress.peak_curvature, progress.mean_curvature)
        is_below = progress.mean_curvature < (1 - self.drop) * progress.peak_curvature
        progress.num_below_peak = progress.num_below_peak + 1 if is_below else 0


class Rate(Configurable, abc.ABC):
    """Decides at each pruning event how many of the smallest living weights may be pruned."""

    @abc.abstractmethod
    def admitted(self, progress: Progress, probe, num_living: int, final_living: int | None) -> tuple[int, dict]:
        """Return how many weights may be pruned, and what was measured for that.

        Args:
            progress: State of the training. The rule may write the fields that it needs at the next event.
            probe: Measures when called: `loss()`, `trace(probes)`, `eigenvalue(iterations)`,
                `num_within_budget(budget, most)`. See `CurvatureProbe`.
            num_living: Number of weights that are not pruned yet.
            final_living: Number of weights that live at the end. None if there is no target: pruning stops then at the
                first three events in a row at which less than a hundredth of the living weights is admitted.

        Returns:
            The number of weights, and a dict with `h`, `loss` and `rise`, or an empty dict if nothing was measured.
        """


rates = Registry("rate", Rate)


@rates.register
class Share(Rate):
    """Prune the same share of the living weights at every event, without measuring.

        n = floor(share * num_living)

    Args:
        share: Fraction of the living weights, in [0, 1). Default: 0.2.

    Raises:
        ValueError: If `share` is not in this range.

    Examples:
        >>> tfsparse.PLL((x[:128], y[:128]), sparsity=0.9, rate=Share(0.1))
    """

    def __init__(self, share: float = 0.2):
        _check_range("share", share, 0, 1)
        self.share = share

    def admitted(self, progress, probe, num_living, final_living):
        return int(self.share * num_living), {}


@rates.register
class LossBudget(Rate):
    """Prune until a quadratic model of the loss predicts that it rises by a fraction of itself, and add the rises up.

        h      = trace(H) / num_living            with curvature="max": |largest eigenvalue of H|
        rise   = h / 2 * sum(w²) / loss           of the n smallest |w|
        n      = the most with  rise <= tolerance,  n <= max_share * (num_living - final_living),
                 and without a target  final_living = 0,  rise <= total - spent
        spent += rise

    Loss and Hessian are those of the calibration data. If the loss or h is not finite, or h <= 0, no weight is
    admitted.

    Args:
        tolerance: Predicted rise at one event as a fraction of the loss, >= 0. Default: 0.25.
        total: Sum of the predicted rises of all events if there is no target, >= 0, or infinity. Default: 1.0.
        max_share: Largest share, of the weights that are to be pruned until the target, that one event may prune, in
            [0, 1). Without a target it is a share of all living weights. Default: 0.2.
        curvature: "mean" for the mean eigenvalue, or "max" for the largest. The largest bounds the rise in the worst
            case, and admits very few weights. Default: "mean".
        products: Number of Hessian-vector products for h, from 1 to 5. Default: 2.

    Raises:
        ValueError: If an argument is not in its range.

    Source:
        The second-order Taylor expansion of the loss, as in LeCun, Denker, Solla, "Optimal Brain Damage" (NeurIPS
        1989), equation 1, with one curvature for all weights. The budget is ours.

    Examples:
        >>> tfsparse.PLL((x[:128], y[:128]), rate=LossBudget(total=0.5))
    """

    def __init__(
        self,
        tolerance: float = 0.25,
        total: float = 1.0,
        max_share: float = 0.2,
        curvature: str = "mean",
        products: int = 2,
    ):
        _check_range("tolerance", tolerance, 0, math.inf)
        if total != math.inf:
            _check_range("total", total, 0, math.inf)
        _check_range("max_share", max_share, 0, 1)
        check_choice("curvature", curvature, ("mean", "max"))
        if not 1 <= products <= 5:
            raise ValueError(f"products={products!r}: expected a number from 1 to 5, for example products=4.")
        self.tolerance, self.total, self.max_share = tolerance, total, max_share
        self.curvature, self.products = curvature, products

    def admitted(self, progress, probe, num_living, final_living):
        is_mean = self.curvature == "mean"
        h = probe.trace(self.products) / num_living if is_mean else abs(probe.eigenvalue(self.products))
        loss = probe.loss()
        number, rise = 0, 0.0
        if math.isfinite(h) and math.isfinite(loss) and h > 0 and loss > 0:
            per_square = h / 2 / loss
            room = min(self.tolerance, self.total - progress.spent if final_living is None else math.inf)
            most = int(self.max_share * (num_living - (final_living or 0)))
            number, squares = probe.num_within_budget(room / per_square, most)
            rise = per_square * squares
        progress.spent += rise
        return number, {"h": h, "loss": loss, "rise": rise}


def num_to_prune(admitted: int, num_living: int, final_living: int | None, num_events: int) -> int:
    """Return how many weights a pruning event prunes.

        n     = admitted
        share = 1 - (final_living / num_living) ** (1 / num_events)
        n     = min(max(n, share * num_living), num_living - final_living)         if there is a target
        n     = num_living - final_living       if otherwise less than a twentieth more than final_living would remain

    So the target is met at the last event at the latest. Until then an event that admits too few weights prunes the
    share which, repeated at every event, leads to the target.

    Args:
        admitted: Number of weights that the rate admits.
        num_living: Number of weights that are not pruned yet.
        final_living: Number of weights that live at the end. None if there is no target.
        num_events: Number of pruning events that are left, with this one.

    Returns:
        The number of weights.

    Examples:
        >>> num_to_prune(admitted=0, num_living=100, final_living=25, num_events=2)
        50
        >>> num_to_prune(admitted=20, num_living=100, final_living=None, num_events=1)
        20
        >>> num_to_prune(admitted=59, num_living=100, final_living=40, num_events=9)
        60
    """
    if final_living is None:
        return admitted
    share = 1 - (final_living / num_living) ** (1 / max(num_events, 1))
    needed = num_living - final_living if num_events <= 1 else math.ceil(share * num_living - 1e-9)
    number = max(admitted, needed)
    return number if num_living - number > 1.05 * final_living else num_living - final_living


def default_every(total_steps: int) -> int:
    """Return the number of steps between two checks.

    A long training has 64 checks. A shorter one has a check every 40 steps, but at least 16 checks.

    Args:
        total_steps: Length of the training in optimizer steps.

    Returns:
        A number of steps, >= 1.

    Examples:
        >>> [default_every(total_steps) for total_steps in (320, 1_000, 10_000)]
        [20, 40, 156]
    """
    return max(total_steps // 64, min(40, total_steps // 16), 1)


def _check_range(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
        raise ValueError(f"{name}={value!r}: expected a number in [{low:g}, {high:g}).")
