"""The two callbacks, with names that are imported one by one, and a model that a function trains."""

import tempfile

import tensorflow as tf
from tensorflow_model_optimization.sparsity.keras import (
    PolynomialDecay,
    PruningSummaries,
    UpdatePruningStep,
    prune_low_magnitude,
)


def main():
    (x, y), _ = tf.keras.datasets.cifar10.load_data()
    layers = [
        tf.keras.layers.Conv2D(8, 3, strides=2, activation="relu", input_shape=x.shape[1:]),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(10),
    ]
    schedule = PolynomialDecay(
        initial_sparsity=0.1,
        final_sparsity=0.9,
        begin_step=2,
        end_step=100,
        frequency=10,  # TFMOT's default is 100
        power=2,
    )
    model = prune_low_magnitude(tf.keras.Sequential(layers), schedule)
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logs = tempfile.mkdtemp()
    model.fit(x / 255.0, y, epochs=10, callbacks=[UpdatePruningStep(), PruningSummaries(log_dir=logs)])


if __name__ == "__main__":
    main()
