"""Prune, strip, and quantise in training so that the zeros stay (PQAT)."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

(x_train, y_train), _ = tf.keras.datasets.mnist.load_data()
x_train = x_train / 255.0
model = tf.keras.Sequential([
    tf.keras.layers.Flatten(input_shape=(28, 28)),
    tf.keras.layers.Dense(32, activation="relu"),
    tf.keras.layers.Dense(10),
])
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

prune = tfmot.sparsity.keras
pruned = prune.prune_low_magnitude(model, prune.ConstantSparsity(0.5, begin_step=0, frequency=100))
pruned.compile("adam", loss)
pruned.fit(x_train, y_train, epochs=1, callbacks=[prune.UpdatePruningStep()])
stripped = prune.strip_pruning(pruned)

annotated = tfmot.quantization.keras.quantize_annotate_model(stripped)
pqat_model = tfmot.quantization.keras.quantize_apply(
    annotated,
    tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme())
pqat_model.compile("adam", loss)
pqat_model.fit(x_train, y_train, batch_size=64, epochs=1)
