"""A layer of one's own that says what of it is pruned: here the bias, too."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot


class MyDenseLayer(tf.keras.layers.Dense, tfmot.sparsity.keras.PrunableLayer):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]


model = tf.keras.Sequential([
    MyDenseLayer(40, activation="relu", input_shape=(20,)),
    tf.keras.layers.Dense(10),
])
model_for_pruning = tfmot.sparsity.keras.prune_low_magnitude(
    model, tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0))
model_for_pruning.compile("adam", "mse")
model_for_pruning.fit(tf.random.normal((64, 20)), tf.random.normal((64, 10)),
                      callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
