"""The options of `ActivationDensity`. Its constructor, its docstring and the section of a config are made from them."""

import dataclasses

from tfsparse.structured.stages.options import StageOptions, check_whole, number, option, whole


def _is_rising(epochs):
    is_list = isinstance(epochs, (list, tuple)) and bool(epochs)
    return is_list and all(type(e) is int and e > 0 for e in epochs) and list(epochs) == sorted(set(epochs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(StageOptions):
    """The options of `ActivationDensity`, checked. The metadata of a field says what it means and what it may be.

    Raises:
        ValueError: If an option has another value than its `metadata["expected"]` says.
    """

    rounds: int = whole(1, "Largest number of resizes.")
    weights: str = option(
        "inherit",
        '"inherit" or "reinit"',
        "Whether channels that stay keep their weights, statistics and optimizer state (inherit), or a resize starts "
        "with fresh weights and a fresh optimizer (reinit).",
        choices=("inherit", "reinit"),
    )
    saturation: float = number(0.01, "Range of the last densities of a layer below which the layer is saturated.")
    window: int = whole(5, "Number of epochs over which that range is measured.")
    min_epochs: int = whole(1, "Smallest number of epochs between two resizes, and after the last.")
    max_epochs: int | None = option(
        None,
        "a whole number of at least min_epochs, such as 20",
        "Number of epochs after which a stage ends without saturation. None: a tenth of the epochs, or min_epochs if "
        "that is more.",
        least=1,
    )
    prune_epochs: tuple[int, ...] | None = option(
        None,
        "rising numbers of epochs, such as [10, 20]",
        "Epochs, counted from 1, after which to resize, whatever the densities and rounds. None: when saturated.",
        valid=_is_rising,
    )
    smallest: int = whole(8, "Smallest width of a layer.")
    multiple: int = whole(1, "Number of which widths are multiples.")
    min_kept: float = option(
        0.75,
        "a number in [0, 1), such as 0.75",
        "Smallest fraction of its width that a resize leaves a layer. 0: its density alone decides.",
        least=0,
        below=1,
    )
    tolerance: float = number(0.02, "Difference of `monitor` beyond which a worse stage is undone.")
    monitor: str = option(
        "val_accuracy",
        "the name of a metric",
        'Metric by which stages are compared. Higher is better, unless its name ends with "loss" or "error". If it is '
        "not measured, no stage is undone.",
    )
    examples: int = whole(5000, "Number of examples on which densities are measured.")
    seed: int = whole(0, "Seed of the order of arrays and of fresh weights.", least=0)

    def __post_init__(self):
        super().__post_init__()
        if self.max_epochs is not None:
            check_whole("max_epochs", self.max_epochs, least=self.min_epochs)
        if self.prune_epochs is not None:
            object.__setattr__(self, "prune_epochs", tuple(self.prune_epochs))
