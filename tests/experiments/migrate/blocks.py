"""Blocks of weights, ranked by the largest of them."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

params = dict(
    pruning_schedule=tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.2, final_sparsity=0.8, begin_step=1000, end_step=2000
    ),
    block_size=(4, 2),
    block_pooling_type="MAX",
)

model = tf.keras.Sequential([
    tf.keras.layers.Dense(32, activation="relu", input_shape=(64,)),
    tfmot.sparsity.keras.prune_low_magnitude(tf.keras.layers.Dense(8), **params),
])
model.compile("adam", "mse")
model.fit(tf.random.normal((64, 64)), tf.random.normal((64, 8)), epochs=4,
          callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
