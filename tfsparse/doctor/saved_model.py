"""TensorFlow, TensorFlow Serving, XLA."""

from tfsparse.doctor import measuring
from tfsparse.doctor.subject import KerasSubject, SavedModelSubject
from tfsparse.doctor.target import CHANNELS, NO, NO_ZEROS, YES, Target, Verdict
from tfsparse.export import packing
from tfsparse.export.saved_model import export


class SavedModel(Target):
    """A zero is multiplied like any other number; `tfsparse.export` leaves it out of the file.

    Measured: docs/export.md.
    """

    name, title, takes = "savedmodel", "TensorFlow, TensorFlow Serving, XLA", (KerasSubject, SavedModelSubject)

    def verdict(self, weight, pattern):
        if pattern.name == "dense":
            return Verdict(NO, NO, NO_ZEROS, CHANNELS)
        if packing.sparse_parts(weight.array) is None:
            return Verdict(NO, NO, "too few zeros, or too few entries, to be packed", CHANNELS)
        return Verdict(YES, NO, "TensorFlow has no sparse kernels; packed weights are unpacked when loaded", CHANNELS)

    def granularities(self, sparsity):
        return {"dense": "weight", "conv": "weight"}

    def forms(self, subject, folder):
        dense = subject.saved_model(folder)
        packed = export(dense, folder / "packed")
        return [
            measuring.saved_model("dense, in which Keras 3 writes every variable twice", dense),
            measuring.saved_model("packed by tfsparse.export", packed),
        ]
