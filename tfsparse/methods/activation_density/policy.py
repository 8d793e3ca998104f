"""When a training by activation density resizes, and when it returns to an earlier stage. The record alone decides."""

import math

from tfsparse.methods.activation_density import rules
from tfsparse.methods.activation_density.options import Options


class ResizePolicy:
    """Applies the rules to the record of a training.

    Its methods take `entries`, one dict per epoch as in `Record.entries`, and `position`, a `Position`.

    Args:
        options: The options of `ActivationDensity`.
    """

    def __init__(self, options: Options):
        self.options = options

    def check_epochs(self, first_epoch: int, epochs: int) -> None:
        """Check that `prune_epochs` are epochs of the training.

        Args:
            first_epoch: First epoch of the training, from 0.
            epochs: Epoch at which the training ends.

        Raises:
            ValueError: If no epoch follows one of them, or one of them is before the training.
        """
        planned = self.options.prune_epochs or ()
        outside = [epoch for epoch in planned if not first_epoch < epoch < epochs]
        if outside:
            raise ValueError(
                f"prune_epochs={list(planned)}: after epoch {outside[0]} nothing can be resized in a training from "
                f"epoch {first_epoch} to {epochs}. Expected numbers above {first_epoch} and below epochs={epochs}: "
                f"ActivationDensity(model, prune_epochs=[{max(first_epoch + 1, (first_epoch + epochs) // 2)}])."
            )

    def is_due(self, entries: list[dict], position, epochs_left: int) -> bool:
        """Return whether the stage ends now and a resize is considered."""
        options, stage_entries = self.options, entries[position.stage_begin :]
        if position.stopped or not stage_entries or not epochs_left:
            return False
        if options.prune_epochs is not None:
            return entries[-1]["epoch"] in options.prune_epochs
        if position.stage >= options.rounds:
            return False
        densities = [list(entry["densities"].values()) for entry in stage_entries]
        max_epochs = options.max_epochs or (len(entries) + epochs_left) // (options.rounds + 1)
        return rules.is_due(densities, options.window, options.saturation, options.min_epochs, max_epochs, epochs_left)

    def new_widths(self, entry: dict) -> dict[str, int]:
        """Return `{group: new width}` for the groups whose width changes by the densities of an epoch."""
        widths = {
            name: rules.new_width(entry["widths"][name], density, self.options.smallest, self.options.multiple)
            for name, density in entry["densities"].items()
        }
        return {name: width for name, width in widths.items() if width < entry["widths"][name]}

    def reason_to_stop(self, entry: dict) -> str | None:
        """Return why nothing is resized by the densities of an epoch, or None if something is."""
        if entry["density"] >= rules.MAX_DENSITY:
            return f"density {entry['density']:.2f} is {rules.MAX_DENSITY} or more"
        return None if self.new_widths(entry) else "it would change no layer by a channel"

    def reason_to_roll_back(self, entries: list[dict], stage: int) -> str | None:
        """Return how much worse a stage is than the one before, or None if it is within the tolerance."""
        before, now = (self._monitored(entries, s) for s in (stage - 1, stage))
        name, tolerance = self.options.monitor, self.options.tolerance
        lower_is_better = name.endswith(("loss", "error"))
        if not rules.is_worse(before, now, tolerance, lower_is_better):
            return None
        best = min if lower_is_better else max
        return f"{name} {best(now):.4f} after {best(before):.4f} is worse by more than {tolerance:g}"

    def _monitored(self, entries, stage):
        values = [entry.get(self.options.monitor, math.nan) for entry in entries if entry["stage"] == stage]
        return [value for value in values if not math.isnan(value)]
