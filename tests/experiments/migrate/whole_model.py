"""A whole model, pruned by a polynomial schedule while it is fine-tuned."""

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

keras = tf.keras
prune_low_magnitude = tfmot.sparsity.keras.prune_low_magnitude  # as TFMOT's guide writes it

(train_images, train_labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
train_images, test_images = train_images / 255.0, test_images / 255.0

model = keras.Sequential([
    keras.layers.InputLayer(input_shape=(28, 28)),
    keras.layers.Reshape(target_shape=(28, 28, 1)),
    keras.layers.Conv2D(filters=12, kernel_size=(3, 3), activation="relu"),
    keras.layers.MaxPooling2D(pool_size=(2, 2)),
    keras.layers.Flatten(),
    keras.layers.Dense(10),
])

batch_size, epochs = 32, 2
end_step = np.ceil(len(train_images) / batch_size).astype(np.int32) * epochs

pruning_params = {
    "pruning_schedule": tfmot.sparsity.keras.PolynomialDecay(initial_sparsity=0.50,
                                                             final_sparsity=0.80,  # of every layer
                                                             begin_step=0,
                                                             end_step=end_step)
}
model_for_pruning = prune_low_magnitude(model, **pruning_params)
model_for_pruning.compile(optimizer="adam",
                          loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                          metrics=["accuracy"])

callbacks = [
    tfmot.sparsity.keras.UpdatePruningStep(),
]
model_for_pruning.fit(train_images, train_labels, batch_size=batch_size, epochs=epochs, validation_split=0.1,
                      callbacks=callbacks)
