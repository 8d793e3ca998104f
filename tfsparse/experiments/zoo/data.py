"""Labelled images as deterministic batches that can be resumed: scikit-learn's digits, and image data sets of TFDS."""

import dataclasses
import difflib
import math
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfsparse.backend import extras
from tfsparse.experiments.zoo.augmentation import AUGMENTATIONS

_MEMORY_LIMIT = 2 * 1024**3  # bytes of decoded images; larger data sets are streamed
_LARGEST_IMAGE = 4096  # pixels on a side
_SHUFFLE_BUFFER = 16_384  # encoded images, when streaming
_STATISTICS_SAMPLE = 10_000  # training images that give mean and std, when streaming


class DatasetUnavailable(ValueError):
    """A known data set is not prepared on this machine and cannot be downloaded."""


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in batches of `(images, labels)`: float32 `(batch, height, width, channels)`, and int64.

    Attributes:
        name: Name of the data set.
        train: Batches of all epochs, one after the other:
            `model.fit(data.train, steps_per_epoch=data.steps_per_epoch, shuffle=False)`.
        validation: Batches of the validation images.
        steps_per_epoch: Batches of one epoch.
        num_classes: Number of classes.
        input_shape: `(height, width, channels)`.
        mean: Per channel, what inference subtracts from images in [0, 1]: the mean of the training images, or 0.
        std: Per channel, what inference then divides by: the standard deviation of the training images, or 1.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    steps_per_epoch: int
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Raw batches: `train(epoch, seed, batch_size)`, shuffled in each epoch, and `validation(batch_size)`, in order."""

    train: Callable
    validation: Callable
    size: int
    num_classes: int
    input_shape: tuple[int, int, int]
    peak: int  # the raw value of white
    mean: np.ndarray  # raw, per channel
    std: np.ndarray


def load(
    name: str,
    batch_size: int = 128,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    augment: str | None = None,
    epochs: int = 1,
    first_epoch: int = 0,
    validation_batch_size: int | None = None,
    image_size: int | None = None,
    standardize: bool = True,
) -> Data:
    """Load a data set as training and validation batches.

    The batches of an epoch depend only on the seed and the epoch, with augmentation. So a run that is resumed at
    `first_epoch` has the same batches, bit for bit, as an uninterrupted one.

    Args:
        name: "digits" (1,797 images of 8x8 pixels from scikit-learn, no network), or an image classification data set
            of TFDS. It is downloaded if it is not prepared.
        batch_size: Images per batch, >= 1. Default: 128.
        seed: Seed of the order and of the augmentation. Default: 0.
        data_dir: Folder of TFDS. Default: None, the variable TFDS_DATA_DIR or else ~/tensorflow_datasets.
        augment: None, or "pad_crop_flip": 4 black pixels around each image, a random crop, and a flip with probability
            1/2. Default: None.
        epochs: As `epochs` of `fit`. Default: 1.
        first_epoch: As `initial_epoch` of `fit`. Default: 0.
        validation_batch_size: Default: None, `batch_size`.
        image_size: Side in pixels of the square to which images are resized. Default: None, not resized.
        standardize: Subtract the mean of the training images and divide by their standard deviation, per channel.
            False leaves pixels in [0, 1]. Default: True.

    Returns:
        The data set.

    Raises:
        DatasetUnavailable: If the data set is not prepared and cannot be downloaded.
        ValueError: If an argument is invalid, or the data set is not one of labelled images.

    Examples:
        >>> data = load("digits", batch_size=32, epochs=3)
        >>> data.steps_per_epoch, data.input_shape, data.num_classes
        (44, (8, 8, 1), 10)
    """
    if augment not in (None, *AUGMENTATIONS):
        raise ValueError(f"augment={augment!r} is unknown; write augment=None or one of {sorted(AUGMENTATIONS)}.")
    if not 0 <= first_epoch < epochs:
        raise ValueError(
            f"first_epoch={first_epoch} and epochs={epochs} leave no epoch to train: epochs counts from the very "
            f"beginning of the run; write epochs={max(first_epoch, 0) + 1} for one epoch more."
        )
    if image_size is not None and not 1 <= image_size <= _LARGEST_IMAGE:
        raise ValueError(f"image_size={image_size}: expected a side of 1 to {_LARGEST_IMAGE} pixels, such as 224.")
    source = _digits(image_size) if name == "digits" else _from_tfds(name, data_dir, image_size)
    if not standardize:
        mean, std = np.zeros_like(source.mean), np.full_like(source.std, source.peak)
        source = dataclasses.replace(source, mean=mean, std=std)
    steps = source.size // batch_size
    if steps < 1:
        raise ValueError(
            f"batch_size={batch_size} exceeds the {source.size} training images of {name!r}; "
            f"write load({name!r}, batch_size={min(128, source.size)})."
        )
    train = _training_batches(source, batch_size, seed, augment, first_epoch, epochs)
    validation = source.validation(validation_batch_size or batch_size).map(_standardise(source), tf.data.AUTOTUNE)
    return Data(
        name=name,
        train=train.apply(tf.data.experimental.assert_cardinality(steps * (epochs - first_epoch))).prefetch(2),
        validation=validation.prefetch(2),
        steps_per_epoch=steps,
        num_classes=source.num_classes,
        input_shape=source.input_shape,
        mean=tuple((source.mean / source.peak).tolist()),
        std=tuple((source.std / source.peak).tolist()),
    )


def _training_batches(source, batch_size, seed, augment, first_epoch, epochs):
    change = AUGMENTATIONS[augment] if augment else lambda images, _: images
    standardise = _standardise(source)

    def epoch_batches(epoch):
        def prepare(step, batch):
            images, labels = batch
            return standardise(change(images, tf.random.fold_in([seed, epoch], step)), labels)

        return source.train(epoch, seed, batch_size).enumerate().map(prepare, tf.data.AUTOTUNE)

    return tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)


def _standardise(source):
    mean, std = (np.float32(x / source.peak) for x in (source.mean, source.std))
    return lambda images, labels: ((tf.cast(images, tf.float32) / source.peak - mean) / std, labels)


def _digits(image_size):
    train_test_split = extras.require("sklearn.model_selection", "cli").train_test_split
    digits = extras.require("sklearn.datasets", "cli").load_digits()
    images, labels = digits.images[..., None].astype("uint8"), digits.target.astype("int64")
    if image_size:
        if len(images) * image_size**2 * 4 > _MEMORY_LIMIT:  # resized pixels are floats before they are rounded
            raise ValueError(f"image_size={image_size}: the digits are resized in memory; write at most 512.")
        images = _resize(tf.constant(images), image_size).numpy()
    # The split does not depend on the seed of the run: all runs are validated on the same 360 digits.
    x, x_test, y, y_test = train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)
    return _memory_source((x, y), (x_test, y_test), num_classes=10, peak=16)


def _memory_source(training, held_out, num_classes, peak):
    size, shape = len(training[0]), tuple(training[0].shape[1:])
    mean, std = _statistics(training[0][i : i + 1000] for i in range(0, size, 1000))
    with tf.device("CPU"):
        images, labels = (tf.constant(array) for array in training)

    def train(epoch, seed, batch_size):
        steps = size // batch_size
        order = tf.random.experimental.stateless_shuffle(tf.range(size), tf.stack([tf.cast(seed, tf.int64), epoch]))
        batches = tf.data.Dataset.from_tensor_slices(tf.reshape(order[: steps * batch_size], (steps, batch_size)))
        return batches.map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))

    def validation(batch_size):
        return tf.data.Dataset.from_tensor_slices(held_out).batch(batch_size)

    return _Source(train, validation, size, num_classes, shape, peak, mean, std)


def _statistics(batches):
    """Return mean and std per channel; a channel without contrast is divided by 1, not by 0."""
    count, total, squares = 0, 0.0, 0.0
    for images in batches:
        images = np.asarray(images, "float64")
        count += math.prod(images.shape[:-1])
        total += images.sum(axis=(0, 1, 2))
        squares += np.square(images).sum(axis=(0, 1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return mean, np.where(std > 0, std, 1.0)


def _from_tfds(name, data_dir, image_size):
    directory = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    builder = _builder(name, directory)
    image, label = _supervised_keys(builder)
    features = builder.info.features
    shape = (image_size, image_size, features[image].shape[-1]) if image_size else features[image].shape
    if None in shape:
        raise ValueError(f"The images of {name!r} differ in size, {shape}; write load({name!r}, image_size=224).")
    _prepare(builder, directory)
    splits = builder.info.splits
    decoders = {image: _tfds().decode.SkipDecoding()}  # shuffling then moves the encoded bytes, a tenth of the pixels

    def encoded(split):
        examples = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        return examples.map(lambda example: (example[image], example[label]))

    def decode(bytes_, target):
        pixels = features[image].decode_example(bytes_)
        return tf.ensure_shape(_resize(pixels, image_size) if image_size else pixels, shape), tf.cast(target, tf.int64)

    held_out = _held_out_split(builder, encoded)
    dtype = np.dtype(features[image].np_dtype)
    about = {"num_classes": features[label].num_classes, "peak": np.iinfo(dtype).max if dtype.kind == "u" else 1}
    examples = sum(splits[split].num_examples for split in ("train", held_out))
    if examples * math.prod(shape) * dtype.itemsize < _MEMORY_LIMIT:
        whole = (encoded(split).map(decode, 8).batch(splits[split].num_examples) for split in ("train", held_out))
        return _memory_source(*(batch.get_single_element() for batch in whole), **about)
    return _streaming_source(encoded("train"), encoded(held_out), decode, splits["train"].num_examples, shape, **about)


def _streaming_source(training, held_out, decode, size, shape, num_classes, peak):
    sample = training.take(_STATISTICS_SAMPLE).map(decode, tf.data.AUTOTUNE).batch(256)
    mean, std = _statistics(images for images, _ in sample.as_numpy_iterator())

    def train(epoch, seed, batch_size):
        # This runs inside flat_map and seeds only flat_map's own graph, not the program.
        # The seed is odd, because TensorFlow's check for the seed pair (0, 0) fails for (0, tensor).
        tf.random.set_seed(2 * seed + 1)
        shuffled = training.shuffle(_SHUFFLE_BUFFER, seed=epoch, reshuffle_each_iteration=False)
        return shuffled.map(decode, tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)

    def validation(batch_size):
        return held_out.map(decode, tf.data.AUTOTUNE).batch(batch_size)

    return _Source(train, validation, size, num_classes, tuple(shape), peak, mean, std)


def _resize(pixels, side):
    resized = tf.image.resize(pixels, (side, side), antialias=True)
    return tf.saturate_cast(tf.round(resized), pixels.dtype) if pixels.dtype.is_integer else resized


def _supervised_keys(builder):
    info, features = builder.info, _tfds().features
    keys = info.supervised_keys or ()
    kinds = [type(info.features[key]) if isinstance(key, str) else None for key in keys]
    if len(kinds) != 2 or not (issubclass(kinds[0], features.Image) and issubclass(kinds[1], features.ClassLabel)):
        raise ValueError(
            f"{builder.name!r} is not an image classification dataset: its supervised keys are {keys or 'none'}, "
            f"expected (an Image, a ClassLabel); its features are {list(info.features)}. Write e.g. load('cifar10')."
        )
    return keys


def _held_out_split(builder, encoded):
    """Return "test", or "validation" if there is no test split or its labels are secret (-1, as in ImageNet)."""
    for split in ("test", "validation"):
        if split in builder.info.splits and next(encoded(split).as_numpy_iterator())[1] >= 0:
            return split
    raise ValueError(
        f"{builder.name!r} has no labelled split 'test' or 'validation', only {list(builder.info.splits)}; "
        f"write e.g. load('cifar10')."
    )


def _builder(name, directory):
    try:
        return _tfds().builder(name, data_dir=directory)
    except _tfds().core.DatasetNotFoundError:
        prepared = os.listdir(directory) if os.path.isdir(directory) else []
        near = difflib.get_close_matches(name, {"digits", *prepared, *_tfds().list_builders()}, n=3) or ["digits"]
        raise ValueError(
            f"Unknown dataset {name!r}: neither prepared in {directory} nor known to TFDS. The nearest names are "
            f"{', '.join(near)}; write load({near[0]!r})."
        ) from None
    except Exception as error:  # TFDS asserts versions and passes whatever stands in the name to the builder
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name!r} is not a dataset of TFDS ({reason}). Write e.g. load('cifar10').") from error


def _prepare(builder, directory):
    if builder.is_prepared():
        return
    try:
        _check_connection(builder)
        builder.download_and_prepare()
    except Exception as error:  # whatever a download may meet: network, disk, a missing decoder, terms to accept
        raise DatasetUnavailable(
            f"{builder.name!r} is not prepared in {directory} and could not be downloaded "
            f"({type(error).__name__}: {error}). Write load({builder.name!r}, data_dir=<the folder that holds "
            f"{builder.name}/>), set TFDS_DATA_DIR to that folder, or run once with internet access; "
            f"load('digits') needs neither."
        ) from error


def _check_connection(builder):
    """Look up the address of each server once. TFDS tries ten times, which takes minutes."""
    if not urllib.request.getproxies():
        for host in {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}:
            socket.getaddrinfo(host, 443)


def _tfds():
    return extras.require("tensorflow_datasets", "cli")  # late: its import takes seconds, and `digits` needs none of it
