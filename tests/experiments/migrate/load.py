"""Save a wrapped model and load it again."""

import os
import tempfile

import tensorflow as tf
import tensorflow_model_optimization as tfmot

model = tf.keras.Sequential([tf.keras.layers.Dense(16, activation="relu", input_shape=(8,)), tf.keras.layers.Dense(2)])
model_for_pruning = tfmot.sparsity.keras.prune_low_magnitude(model)

keras_model_file = os.path.join(tempfile.mkdtemp(), "pruned.h5")
model_for_pruning.save(keras_model_file, include_optimizer=True)

with tfmot.sparsity.keras.prune_scope():
    loaded_model = tf.keras.models.load_model(keras_model_file)

loaded_model.compile("adam", "mse")
loaded_model.fit(tf.random.normal((64, 8)), tf.random.normal((64, 2)),
                 callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
