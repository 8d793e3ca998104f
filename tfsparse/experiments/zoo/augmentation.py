"""Random changes of training images: functions `(images, seed) -> images` of one batch, by name."""

from collections.abc import Callable

import tensorflow as tf


def pad_crop_flip(images, seed, pad: int = 4):
    """Pad each image with `pad` black pixels, crop it at random, and mirror it with probability 1/2."""
    count, height, width, _ = images.shape
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    top, left = tf.unstack(tf.random.stateless_uniform((2, count, 1), crop_seed, maxval=2 * pad + 1, dtype=tf.int32))
    flip = tf.random.stateless_uniform((count, 1), flip_seed) < 0.5
    rows = top + tf.range(height)
    columns = left + tf.where(flip, tf.range(width)[::-1], tf.range(width))
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


AUGMENTATIONS: dict[str, Callable] = {"pad_crop_flip": pad_crop_flip}
