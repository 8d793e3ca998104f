"""When the model of a training shrinks, to which channels, and when the training returns to an earlier stage."""

import abc
import math
from collections.abc import Sequence


class Probe:
    """The model of one stage, and the groups of its channels that may lose some. A subclass also measures.

    Args:
        model: A built model.
        graph: Its `Channels`.

    Attributes:
        graph: The `Channels`.
        groups: The groups that can become narrower.

    Raises:
        ValueError: If there are none.
    """

    condition = "is free"

    def __init__(self, model, graph):
        self.graph, self.groups = graph, self._groups(graph)
        if not self.groups:
            raise ValueError(
                f"Model {model.name!r} has no layer to resize: none of its {len(graph.groups)} groups of channels "
                f"{self.condition}. print(tfsparse.structured.Channels(model)) says why."
            )

    @property
    def widths(self) -> dict[str, int]:
        """`{group: its number of channels}`."""
        return {group.name: len(group) for group in self.groups}

    def figures(self) -> tuple[dict[str, float], dict[str, dict]]:
        """Return what is measured after every epoch: figures for the logs, and further ones for the record only."""
        return {}, {}

    def _groups(self, graph):
        return [group for group in graph.groups if not group.frozen]


class ResizePolicy(abc.ABC):
    """Decides by the record of a training, and by what a `Probe` measures. A subclass is the rule of one method.

    Its methods take `entries`, one dict per epoch as in `Record.entries`, and `position`, a `Position`.

    Args:
        options: The `StageOptions` of the method. `tolerance`, `monitor` and `seed` are used here.

    Attributes:
        examples: Function of a batch `(x, y, ...)` that returns what the probe measures on; None if it needs no data.
        method: Name that a directory of a training holds. None: the training is by activation density, whose
            directories have none.
    """

    examples = None
    method: str | None = None

    def __init__(self, options):
        self.options = options

    def check_model(self, model, graph) -> None:  # noqa: B027  most methods train every model
        """Refuse a model that cannot be trained so.

        Args:
            model: The compiled model.
            graph: Its `Channels`.

        Raises:
            ValueError: If the model or one of its layers does not fit the method.
        """

    @abc.abstractmethod
    def check_epochs(self, first_epoch: int, epochs: int) -> None:
        """Refuse a training in which what was asked for cannot take place.

        Args:
            first_epoch: First epoch of the training, from 0.
            epochs: Epoch at which the training ends.

        Raises:
            ValueError: If the training is too short.
        """

    def probe(self, model, graph, examples, batch_size: int) -> Probe:
        """Return the probe of a new stage.

        Args:
            model: Its model.
            graph: Its `Channels`.
            examples: What `examples` has returned, or None.
            batch_size: Number of examples per batch.
        """
        return Probe(model, graph)

    @abc.abstractmethod
    def is_due(self, entries: list[dict], position, epochs_left: int) -> bool:
        """Return whether the stage ends now and a resize is considered."""

    def reason_to_stop(self, entry: dict) -> str | None:
        """Return why nothing is resized after an epoch and never again, or None."""
        return None

    @abc.abstractmethod
    def kept_channels(self, probe: Probe, entries: list[dict], position) -> dict[str, list[int]]:
        """Return the channels that stay, `{group: indices}`, as `tfsparse.shrink(model, keep=...)` takes them."""

    def first_model(self, model, optimizer: type, config: dict, stage: int):
        """Return the model with which a stage begins. By default it is the smaller model with the weights it has kept.

        Args:
            model: The model after the resize.
            optimizer: Class of the optimizer.
            config: Its config.
            stage: Number of the stage, from 1.
        """
        return model

    @abc.abstractmethod
    def label(self, entry: dict) -> str:
        """Return what the line about a resize says first of the epoch after which it is made."""

    def reason_to_roll_back(self, entries: list[dict], stage: int) -> str | None:
        """Return how much worse a stage is than the one before, or None if it is within the tolerance."""
        name, tolerance = self.options.monitor, self.options.tolerance
        if tolerance is None:
            return None
        before, now = (self._monitored(entries, s) for s in (stage - 1, stage))
        lower_is_better = name.endswith(("loss", "error"))
        if not is_worse(before, now, tolerance, lower_is_better):
            return None
        best = min if lower_is_better else max
        return f"{name} {best(now):.4f} after {best(before):.4f} is worse by more than {tolerance:g}"

    def _monitored(self, entries, stage):
        values = [entry.get(self.options.monitor, math.nan) for entry in entries if entry["stage"] == stage]
        return [value for value in values if not math.isnan(value)]


def is_worse(before: Sequence[float], now: Sequence[float], tolerance: float, lower_is_better: bool = False) -> bool:
    """Return whether the best value of this stage is worse than that of the stage before by more than the tolerance.

    Args:
        before: Metric after each epoch of the stage before.
        now: Metric after each epoch of this stage.
        tolerance: Difference of the metric.
        lower_is_better: Whether the metric is a loss. Default: False.

    Returns:
        False also if one of the stages has no values.

    Examples:
        >>> is_worse([0.90, 0.92], [0.91, 0.90], tolerance=0.02), is_worse([0.90, 0.95], [0.91, 0.92], tolerance=0.02)
        (False, True)
    """
    if not before or not now:
        return False
    if lower_is_better:
        return min(now) - min(before) > tolerance
    return max(before) - max(now) > tolerance
