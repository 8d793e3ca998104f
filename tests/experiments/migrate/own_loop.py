"""A training loop without `fit`."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

model = tf.keras.Sequential([tf.keras.layers.Dense(16, activation="relu", input_shape=(8,)), tf.keras.layers.Dense(2)])
model_for_pruning = tfmot.sparsity.keras.prune_low_magnitude(
    model, tfmot.sparsity.keras.PolynomialDecay(0, 0.8, begin_step=0, end_step=4, frequency=1))
batches = [(tf.random.normal((16, 8)), tf.random.normal((16, 2))) for _ in range(2)]

unused_arg = -1
model_for_pruning.optimizer = tf.keras.optimizers.Adam()
step_callback = tfmot.sparsity.keras.UpdatePruningStep()
step_callback.set_model(model_for_pruning)

step_callback.on_train_begin()  # run pruning callback
for _ in range(2):
    for x, y in batches:
        step_callback.on_train_batch_begin(batch=unused_arg)  # run pruning callback
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model_for_pruning(x, training=True) - y))
        grads = tape.gradient(loss, model_for_pruning.trainable_variables)
        model_for_pruning.optimizer.apply_gradients(zip(grads, model_for_pruning.trainable_variables))
    step_callback.on_epoch_end(batch=unused_arg)  # run pruning callback
