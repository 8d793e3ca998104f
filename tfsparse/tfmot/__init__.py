"""The TFMOT road: everything for `tf_keras` models that are wrapped by `prune_low_magnitude`.

>>> model = tfsparse.tfmot.prune_low_magnitude(model)
>>> model.compile("adam", loss="mse")
>>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])
>>> tfsparse.tfmot.strip_pruning(model).save("pruned.keras")
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as TFMOT does: tf.keras is tf_keras from here on

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"tfsparse.tfmot needs Keras 3 on TensorFlow, and its backend is {keras.backend.backend()}: set "
        "KERAS_BACKEND=tensorflow before Python starts."
    )

from tfsparse.tfmot.callbacks import Prune
from tfsparse.tfmot.prune import prune_low_magnitude, scope, strip_pruning
from tfsparse.tfmot.schedules import (
    DSD,
    Constant,
    Cosine,
    Iterative,
    Linear,
    OneCycle,
    OneShot,
    Polynomial,
    StepSchedule,
)
from tfsparse.tfmot.wrapper import PruneLowMagnitude

__all__ = [
    "DSD",
    "Constant",
    "Cosine",
    "Iterative",
    "Linear",
    "OneCycle",
    "OneShot",
    "Polynomial",
    "Prune",
    "PruneLowMagnitude",
    "StepSchedule",
    "prune_low_magnitude",
    "scope",
    "strip_pruning",
]
