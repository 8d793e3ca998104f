"""Strip the wrappers, convert to TFLite, and measure the file."""

import os
import tempfile
import zipfile

import tensorflow as tf
import tensorflow_model_optimization as tfmot

model = tf.keras.Sequential([
    tf.keras.layers.Dense(64, activation="relu", input_shape=(20,)),
    tf.keras.layers.Dense(5),
])
schedule = tfmot.sparsity.keras.PolynomialDecay(
    initial_sparsity=0.0, final_sparsity=0.9, begin_step=0, end_step=2)
model_for_pruning = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
model_for_pruning.compile("adam", "mse")
model_for_pruning.fit(tf.random.normal((64, 20)), tf.random.normal((64, 5)),
                      callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])

model_for_export = tfmot.sparsity.keras.strip_pruning(model_for_pruning)  # without it nothing is smaller

converter = tf.lite.TFLiteConverter.from_keras_model(model_for_export)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
tflite_file = os.path.join(tempfile.mkdtemp(), "pruned.tflite")
with open(tflite_file, "wb") as f:
    f.write(converter.convert())
with zipfile.ZipFile(tflite_file + ".zip", "w", compression=zipfile.ZIP_DEFLATED) as f:
    f.write(tflite_file)
print("bytes:", os.path.getsize(tflite_file + ".zip"))
