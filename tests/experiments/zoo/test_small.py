"""The small networks compute what their papers draw."""

import keras
import numpy as np

from tfsparse.experiments.zoo import models


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last_state(rows, kernel, recurrent, bias):
    """An LSTM in NumPy, all its outputs: gates in Keras's order input, forget, cell, output."""
    h, c, states = 0.0, 0.0, []
    for row in rows:
        i, f, g, o = np.split(row @ kernel + (h @ recurrent if states else 0) + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def test_lstm_reads_an_image_row_by_row_with_its_channels():
    keras.utils.set_random_seed(0)
    model = models.build("lstm", (5, 4, 3), 7, units=6, initializer="torch")
    image = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    first, second, last = (layer.get_weights() for layer in model.layers if layer.get_weights())
    hidden = last_state(last_state(image.reshape(5, 12), *first), *second)[-1]
    expected = hidden @ last[0] + last[1]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(image[None]))[0], expected, rtol=1e-4, atol=1e-6)


def test_every_small_network_has_the_widths_asked():
    shapes = [w.shape for w in models.build("lstm", (28, 28, 1), 10, units=256).weights]
    assert shapes == [(28, 1024), (256, 1024), (1024,), (256, 1024), (256, 1024), (1024,), (256, 10), (10,)]
