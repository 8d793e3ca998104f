"""Resizes at equal distances, after which a given fraction of the channels is gone."""

import dataclasses

from tfsparse.masks.topk import num_pruned
from tfsparse.structured.stages.options import StageOptions, option, whole
from tfsparse.structured.stages.policy import ResizePolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundOptions(StageOptions):
    """The options of a method that removes channels in rounds, checked.

    Raises:
        ValueError: If an option has another value than its `metadata["expected"]` says.
    """

    sparsity: float = option(
        0.5,
        "a number of at least 0 and below 1, such as 0.5",
        "Fraction of the channels that are gone after the last resize.",
        least=0,
        below=1,
    )
    rounds: int = whole(4, "Number of resizes. Each removes as many channels, up to rounding.")
    every: int | None = option(
        None,
        "a whole number of at least 1, such as 5",
        "Number of epochs before the first resize and between two of them. None: epochs / (rounds + 1).",
        least=1,
    )
    smallest: int = whole(1, "Smallest width of a layer.")
    tolerance: float | None = option(
        None,
        "a number of at least 0, such as 0.02",
        "Difference of `monitor` beyond which a worse stage is undone, and nothing is resized any more. None: no stage "
        "is undone.",
        least=0,
    )
    monitor: str = option(
        "val_accuracy",
        "the name of a metric",
        'Metric by which stages are compared. Higher is better, unless its name ends with "loss" or "error".',
    )
    seed: int = whole(0, "Seed of the order of arrays.", least=0)


class RoundsPolicy(ResizePolicy):
    """Base of the policies that remove channels in rounds. A subclass says which: it writes `kept_channels`.

        a resize after every `every` epochs, `rounds` in all
        fraction of the channels that are gone after round r: sparsity * r / rounds

    Args:
        options: `RoundOptions`.
    """

    def check_epochs(self, first_epoch, epochs):
        length, rounds = epochs - first_epoch, self.options.rounds
        every = self._every(length)
        if not every:
            raise ValueError(
                f"rounds={rounds}: a training of {length} epochs is too short for so many resizes with training after "
                f"each. Write rounds={max(length - 1, 1)} or at least {rounds + 1} epochs."
            )
        if rounds * every >= length:
            raise ValueError(
                f"every={every}: {rounds} resizes, one every {every} epochs, and training after the last need more "
                f"than the {length} epochs of this training. Write more than {rounds * every} epochs, or leave out "
                "every."
            )

    def is_due(self, entries, position, epochs_left):
        if position.stopped or not epochs_left or position.stage >= self.options.rounds:
            return False
        return len(entries) >= (position.stage + 1) * self._every(len(entries) + epochs_left)

    def label(self, entry):
        return f"round {entry['stage'] + 1} of {self.options.rounds}"

    def num_removed(self, width: int, position) -> int:
        """Return how many of so many channels are gone after the resize that ends the present stage."""
        return num_pruned(self.options.sparsity * (position.stage + 1) / self.options.rounds, width)

    def _every(self, epochs):
        return self.options.every or epochs // (self.options.rounds + 1)
