"""Augmented images are what the seed and the name say."""

import numpy as np
import tensorflow as tf

from tfsparse.experiments.zoo.augmentation import pad_crop_flip


def test_every_seed_draws_anew():
    ones = tf.ones((4, 8, 8, 1), tf.uint8)
    shown = {pad_crop_flip(ones, tf.constant(seed, tf.int64)).numpy().tobytes() for seed in [(0, 0), (0, 1), (1, 0)]}
    assert len(shown) == 3


def test_pad_crop_flip_gives_windows_of_the_padded_image_and_their_mirrors():
    images = np.random.default_rng(0).integers(1, 255, (64, 6, 5, 3)).astype("uint8")
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)])
    found = set()
    for i, image in enumerate(pad_crop_flip(tf.constant(images), tf.constant([3, 4], tf.int64)).numpy()):
        windows = {
            padded[i, top : top + 6, left : left + 5][:, ::way].tobytes(): (top, left, way)
            for top in range(9)
            for left in range(9)
            for way in (1, -1)
        }
        assert image.tobytes() in windows
        found.add(windows[image.tobytes()])
    tops, lefts, ways = map(set, zip(*found, strict=True))
    assert tops == lefts == set(range(9))
    assert ways == {1, -1}
