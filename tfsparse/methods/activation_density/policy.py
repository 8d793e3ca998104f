"""When a training by activation density resizes, and to which channels. The record alone decides when."""

from tfsparse.methods.activation_density import rules
from tfsparse.methods.activation_density.density import DensityProbe
from tfsparse.structured import importance
from tfsparse.structured.stages import fresh_weights
from tfsparse.structured.stages.examples import inputs_of
from tfsparse.structured.stages.policy import ResizePolicy


class DensityPolicy(ResizePolicy):
    """Applies the rules of activation density.

    Args:
        options: The `Options`.
    """

    examples = staticmethod(inputs_of)

    def check_epochs(self, first_epoch, epochs):
        planned = self.options.prune_epochs or ()
        outside = [epoch for epoch in planned if not first_epoch < epoch < epochs]
        if outside:
            raise ValueError(
                f"prune_epochs={list(planned)}: after epoch {outside[0]} nothing can be resized in a training from "
                f"epoch {first_epoch} to {epochs}. Expected numbers above {first_epoch} and below epochs={epochs}: "
                f"ActivationDensity(model, prune_epochs=[{max(first_epoch + 1, (first_epoch + epochs) // 2)}])."
            )

    def probe(self, model, graph, examples, batch_size):
        return DensityProbe(model, graph, examples, batch_size)

    def is_due(self, entries, position, epochs_left):
        options, stage_entries = self.options, entries[position.stage_begin :]
        if position.stopped or not stage_entries or not epochs_left:
            return False
        if options.prune_epochs is not None:
            return entries[-1]["epoch"] in options.prune_epochs
        if position.stage >= options.rounds:
            return False
        densities = [list(entry["densities"].values()) for entry in stage_entries]
        max_epochs = options.max_epochs or max(options.min_epochs, (len(entries) + epochs_left) // 10)
        return rules.is_due(densities, options.window, options.saturation, options.min_epochs, max_epochs, epochs_left)

    def reason_to_stop(self, entry):
        if entry["density"] >= rules.MAX_DENSITY:
            return f"density {entry['density']:.2f} is {rules.MAX_DENSITY} or more"
        return None if self.new_widths(entry) else "it would change no layer by a channel"

    def new_widths(self, entry: dict) -> dict[str, int]:
        """Return `{group: new width}` for the groups whose width changes by the densities of an epoch."""
        limits = self.options.smallest, self.options.multiple, self.options.min_kept
        widths = {
            name: rules.new_width(entry["widths"][name], density, *limits)
            for name, density in entry["densities"].items()
        }
        return {name: width for name, width in widths.items() if width < entry["widths"][name]}

    def kept_channels(self, probe, entries, position):
        """Return the channels with the highest density. Ties: larger L1 norm first."""
        densities, groups = probe.measure(), {group.name: group for group in probe.groups}
        return {
            name: rules.densest_channels(
                densities.channels[name], importance.scores(groups[name], "l1"), width
            ).tolist()
            for name, width in self.new_widths(entries[-1]).items()
        }

    def first_model(self, model, optimizer, config, stage):
        if self.options.weights == "reinit":
            return fresh_weights.reinitialized(model, optimizer, config, f"{self.options.seed} {stage}")
        return model

    def label(self, entry):
        return f"density {entry['density']:.2f}"
