"""What the architectures of images are made of."""

import keras
import numpy as np

from tfsparse.experiments.zoo import convnets


def test_padding_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    images = np.random.default_rng(0).normal(size=(1, 6, 6, 4)).astype("float32")
    inputs = keras.Input((6, 6, 4))
    shortcut = keras.Model(inputs, convnets._padding_shortcut(inputs, 8, 2, "shortcut"))
    expected = np.pad(images[:, ::2, ::2], [(0, 0), (0, 0), (0, 0), (2, 2)])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(shortcut(images)), expected)
