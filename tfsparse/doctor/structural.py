"""Any runtime on any machine: what counts is the shape."""

import tfsparse.structured
from tfsparse.doctor import measuring
from tfsparse.doctor.target import CHANNELS, NO, YES, Target, Verdict
from tfsparse.export.saved_model import export


class Structural(Target):
    """Channels that are empty can be removed by `tfsparse.shrink`; all other zeros are numbers.

    Measured: docs/shrinking.md.
    """

    name, title = "any", "any runtime, by fewer channels"

    def verdict(self, weight, pattern):
        if weight.fixed:
            return Verdict(NO, NO, f"the number of channels must stay: {weight.fixed}")
        if weight.idle is None:
            return Verdict(NO, NO, "nobody knows who reads its channels: the model is not a graph of known layers")
        if weight.idle > 0:
            return Verdict(YES, YES, instead=f"tfsparse.shrink(model) removes {weight.idle:.0%} of its channels")
        if pattern.empty_channels > 0:
            return Verdict(NO, NO, "its empty channels are not without effect", "tfsparse.slim(model), then train on")
        return Verdict(NO, NO, "no channel is empty", CHANNELS)

    def granularities(self, sparsity):
        return {"dense": "channel", "conv": "channel"}

    def forms(self, subject, folder):
        whole = subject.saved_model(folder)
        if not subject.idle_channels()[0]:
            return [measuring.saved_model("as it is", whole)]
        small = export(tfsparse.structured.shrink(subject.model), folder / "small", dense=True)
        return [measuring.saved_model("as it is", whole), measuring.saved_model("after tfsparse.shrink", small)]
