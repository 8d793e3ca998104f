"""What the rest of the package stands on: TensorFlow and JAX, replicas, names, files."""

import keras

SUPPORTED = ("tensorflow", "jax")

if keras.backend.backend() not in SUPPORTED:
    raise ImportError(
        f"tfsparse works with the Keras backends {' and '.join(SUPPORTED)}, and Keras runs on "
        f"{keras.backend.backend()}: set KERAS_BACKEND=tensorflow before Python starts."
    )
