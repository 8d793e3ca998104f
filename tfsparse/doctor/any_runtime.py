"""Any runtime on any machine: only shapes count."""

from tfsparse.doctor import measurement
from tfsparse.doctor.target import CHANNELS, NO, YES, Target, Verdict
from tfsparse.export.saved_model import export
from tfsparse.structured.shrinking import shrink


class AnyRuntime(Target):
    """`tfsparse.shrink` removes channels without effect; other zeros are multiplied like other numbers.

    Measured: docs/shrinking.md.
    """

    name, title = "any", "any runtime, by fewer channels"

    def verdict(self, weight, pattern):
        if weight.why_fixed:
            return Verdict(NO, NO, f"the number of channels must stay: {weight.why_fixed}")
        if weight.removable is None:
            return Verdict(NO, NO, "unknown what reads its channels: the model is not a graph of known layers")
        if weight.removable > 0:
            return Verdict(YES, YES, instead=f"tfsparse.shrink(model) removes {weight.removable:.0%} of its channels")
        if pattern.empty_channels > 0:
            return Verdict(NO, NO, "its empty channels are not without effect", "tfsparse.slim(model), then train on")
        return Verdict(NO, NO, "no channel is empty", CHANNELS)

    def granularities(self, sparsity):
        return {"dense": "channel", "conv": "channel"}

    def forms(self, source, folder):
        forms = [measurement.saved_model_form("as it is", source.saved_model(folder))]
        if source.num_removable_channels()[0]:
            small = export(shrink(source.model), folder / "small", dense=True)
            forms.append(measurement.saved_model_form("after tfsparse.shrink", small))
        return forms
