"""Only the Dense layers of a model, chosen by `clone_model`."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot


def build():
    inputs = tf.keras.Input((16, 16, 3))
    x = tf.keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    x = tf.keras.layers.Dense(32, activation="relu")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(4)(x))


def apply_pruning_to_dense(layer):
    # convolutions stay dense
    if isinstance(layer, tf.keras.layers.Dense):
        return tfmot.sparsity.keras.prune_low_magnitude(
            layer, tfmot.sparsity.keras.PolynomialDecay(0.0, 0.75, 0, 400, 3, 50)
        )
    return layer


model_for_pruning = tf.keras.models.clone_model(build(), clone_function=apply_pruning_to_dense)
model_for_pruning.compile("adam", "mse")
data = tf.data.Dataset.from_tensor_slices((tf.random.normal((64, 16, 16, 3)), tf.random.normal((64, 4)))).batch(8)
model_for_pruning.fit(data, epochs=1, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
