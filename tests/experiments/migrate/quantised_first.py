"""The wrong order, and what tfsparse does not have."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

model = tf.keras.Sequential([tf.keras.layers.Dense(16, input_shape=(8,))])
quantised = tfmot.quantization.keras.quantize_model(model)
pruned = tfmot.sparsity.keras.prune_low_magnitude(quantised)
wrapped = tfmot.sparsity.keras.prune_low_magnitude(model)
quantised_wrappers = tfmot.quantization.keras.quantize_model(wrapped)
clustered = tfmot.clustering.keras.cluster_weights(model, number_of_clusters=16)
print([layer for layer in pruned.layers if isinstance(layer, pruning_wrapper.PruneLowMagnitude)])


class LoggedStep(tfmot.sparsity.keras.UpdatePruningStep):
    def on_epoch_end(self, batch, logs=None):
        print("epoch")
