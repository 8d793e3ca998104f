"""Dense ResNet-20 networks that fit a CPU, one per seed; for the benchmarks of this folder.

CIFAR-10 as JPEG, resized to 16x16 pixels: 40,960 of the 50,000 training images to train, 1,280 others to measure
sensitivity, and the 10,000 test images. No augmentation, which such short trainings do not profit from.
"""

import functools
import json
import pathlib

import keras
import numpy as np
import tables
import tensorflow as tf

from tfsparse.experiments.zoo import data, models

RUNS = tables.ROOT / "runs" / "resnet20"
NUM_TRAIN, NUM_HELD_OUT, BATCH = 40_960, 1_280, 128
EPOCHS = 4  # of the dense network


@functools.cache
def images() -> dict[str, tuple]:
    """Images and labels: "train", "held_out", "test". They are the same for all seeds."""
    loaded = data.load("cifar10_jpeg", image_size=16)
    x, y = (np.concatenate(arrays) for arrays in zip(*loaded.train.as_numpy_iterator(), strict=True))
    test = tuple(np.concatenate(arrays) for arrays in zip(*loaded.validation.as_numpy_iterator(), strict=True))
    held_out = slice(NUM_TRAIN, NUM_TRAIN + NUM_HELD_OUT)
    return {"train": (x[:NUM_TRAIN], y[:NUM_TRAIN]), "held_out": (x[held_out], y[held_out]), "test": test}


def compile_(model: keras.Model, learning_rate: float, epochs: int) -> None:
    """SGD with momentum, and a cosine from `learning_rate` to 0."""
    cosine = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * NUM_TRAIN // BATCH)
    sgd = keras.optimizers.SGD(cosine, momentum=0.9, weight_decay=5e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd, loss, metrics=["accuracy"], jit_compile=False)  # quicker than XLA on this network and CPU


def fit(model: keras.Model, epochs: int, seed: int, callbacks=()) -> None:
    """Train, in an order of the images that the seed determines."""
    keras.utils.set_random_seed(seed)
    batches = tf.data.Dataset.from_tensor_slices(images()["train"]).shuffle(NUM_TRAIN, seed=seed).batch(BATCH)
    model.fit(batches, epochs=epochs, callbacks=list(callbacks), verbose=2)


def accuracy(model: keras.Model) -> float:
    """Of the test images."""
    return model.evaluate(*images()["test"], batch_size=BATCH, verbose=0, return_dict=True)["accuracy"]


def dense(seed: int) -> keras.Model:
    """The dense network of a seed; trained, and kept in `runs/`, when it is first asked for."""
    keras.utils.set_random_seed(seed)
    model = models.build("resnet_20", (16, 16, 3), 10)
    file = RUNS / f"dense-seed{seed}.weights.h5"
    if not file.exists():
        compile_(model, 0.1, EPOCHS)
        fit(model, EPOCHS, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(file)
    else:
        model.load_weights(file)
        compile_(model, 0.1, EPOCHS)
    return model


def keep(file: pathlib.Path, result: dict) -> None:
    """Write a result, so that it is not measured again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
