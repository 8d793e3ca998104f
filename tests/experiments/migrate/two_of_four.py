"""Two zeros in every four weights, for hardware that skips them."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

(x_train, y_train), _ = tf.keras.datasets.mnist.load_data()
model = tf.keras.Sequential([
    tf.keras.layers.Flatten(input_shape=(28, 28)),
    tf.keras.layers.Dense(64, activation="relu"),
    tf.keras.layers.Dense(10, activation="softmax"),
])
pruning_params_2_by_4 = {
    "sparsity_m_by_n": (2, 4),
}
model = tfmot.sparsity.keras.prune_low_magnitude(model, **pruning_params_2_by_4)
model.compile(loss="sparse_categorical_crossentropy", optimizer="adam")
model.fit(x_train, y_train, epochs=1, callbacks=tfmot.sparsity.keras.UpdatePruningStep())
