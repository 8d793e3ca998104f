"""What the TFMOT road needs, checked when it is imported."""

import os

import keras

from tfsparse.backend import extras

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TFMOT sets it too: from here on tf.keras is tf_keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"tfsparse.tfmot needs Keras 3 on TensorFlow, and its backend is {keras.backend.backend()}: set "
        "KERAS_BACKEND=tensorflow before Python starts."
    )
for package in ("tf_keras", "tensorflow_model_optimization"):
    extras.require(package, "tfmot")
