"""Small tf_keras models and data for the tests of the TFMOT road, and how they are trained there."""

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras

layers = tf_keras.layers
stock = tfmot.sparsity.keras
STEPS = 8  # per epoch


def data(shape=(8, 8, 4), examples=64, classes=3):
    random = np.random.default_rng(0)
    return random.normal(size=(examples, *shape)).astype("float32"), random.integers(0, classes, examples)


def small(seed: int = 0) -> tf_keras.Model:
    """A convolution and two dense layers. Without BatchNormalization replicas give the numbers of one device."""
    tf_keras.utils.set_random_seed(seed)
    inputs = layers.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(inputs)
    x = layers.Dense(20, activation="relu", name="hidden")(layers.Flatten()(x))
    return tf_keras.Model(inputs, layers.Dense(3, name="logits", dtype="float32")(x))


def random_model(random: np.random.Generator) -> tf_keras.Model:
    inputs = x = layers.Input((8, 8, int(random.integers(1, 4))))
    for _ in range(random.integers(1, 3)):
        x = layers.Conv2D(int(random.integers(3, 9)), 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x) if random.random() < 0.5 else layers.GlobalAveragePooling2D()(x)
    for _ in range(random.integers(1, 3)):
        x = layers.Dense(int(random.integers(5, 40)), activation="relu")(x)
    return tf_keras.Model(inputs, layers.Dense(3)(x))


def compiled(model, optimizer=None, **options) -> tf_keras.Model:
    optimizer = optimizer or tf_keras.optimizers.SGD(0.05, momentum=0.9)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    return model


def fit(model, *callbacks, epochs: int = 2, **options):
    """Train on the same batches in the same order, `STEPS` per epoch."""
    x, y = data(model.input_shape[1:])
    options = {"batch_size": len(x) // STEPS, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **options)


def kernels(model) -> list[np.ndarray]:
    return [w.numpy() for w in model.trainable_weights if len(w.shape) > 1]


def sparsities(model) -> list[float]:
    return [float(np.mean(k == 0)) for k in kernels(model)]


def masks(model) -> list[np.ndarray]:
    return [mask.numpy() for wrapper in stock_wrappers(model) for _, mask, _ in wrapper.pruning_vars]


def stock_wrappers(model) -> list:
    """Return the pruning wrappers of a model: TFMOT's, and ours, which are subclasses of them."""
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    return pruning_wrapper.collect_prunable_layers(model)


class EveryStep(tf_keras.callbacks.Callback):
    """Collects `look(model)` after every step in `seen`."""

    def __init__(self, look):
        super().__init__()
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))
