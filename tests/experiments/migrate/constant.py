"""A constant sparsity from a step on."""

import tensorflow as tf
from tensorflow_model_optimization.sparsity import keras as sparsity

(x, y), _ = tf.keras.datasets.fashion_mnist.load_data()

inputs = tf.keras.Input((28, 28))
hidden = tf.keras.layers.Dense(32, activation="relu")(tf.keras.layers.Flatten()(inputs))
model = tf.keras.Model(inputs, tf.keras.layers.Dense(10, activation="softmax")(hidden))

pruned = sparsity.prune_low_magnitude(
    model,
    pruning_schedule=sparsity.ConstantSparsity(0.6, begin_step=10, frequency=5),  # no end
)
pruned.compile("sgd", "sparse_categorical_crossentropy")
pruned.fit(x / 255.0, y, epochs=2, callbacks=[sparsity.UpdatePruningStep()])
