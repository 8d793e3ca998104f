"""TensorFlow, TensorFlow Serving and XLA."""

from tfsparse.doctor import measurement
from tfsparse.doctor.sources import KERAS, SAVED_MODEL
from tfsparse.doctor.target import CHANNELS, NO, NO_ZEROS, YES, Target, Verdict
from tfsparse.export import packing
from tfsparse.export.saved_model import export


class TensorFlowRuntime(Target):
    """Zeros are multiplied like other numbers; `tfsparse.export` makes the file smaller.

    Measured: docs/export.md.
    """

    name, title, kinds = "savedmodel", "TensorFlow, TensorFlow Serving, XLA", (KERAS, SAVED_MODEL)

    def verdict(self, weight, pattern):
        if pattern.name == "dense":
            return Verdict(NO, NO, NO_ZEROS, CHANNELS)
        if packing.sparse_parts(weight.array) is None:
            return Verdict(NO, NO, "too few zeros, or too few entries, to be packed", CHANNELS)
        return Verdict(YES, NO, "TensorFlow has no sparse kernels; packed weights are unpacked when loaded", CHANNELS)

    def granularities(self, sparsity):
        return {"dense": "weight", "conv": "weight"}

    def forms(self, source, folder):
        dense = source.saved_model(folder)
        return [
            measurement.saved_model_form("dense, in which Keras 3 writes every variable twice", dense),
            measurement.saved_model_form("packed by tfsparse.export", export(dense, folder / "packed")),
        ]
