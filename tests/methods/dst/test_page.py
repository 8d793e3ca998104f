"""The page of a model with trainable thresholds."""

import keras

import tfsparse
from tfsparse.reporting import page


def test_thresholds_are_taken_out_before_channels_are_counted():
    hidden, out = keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="out")
    model = keras.Sequential([keras.Input((3,)), hidden, out])
    out.kernel.assign([[1, 2], [0, 0], [0, 0], [0, 3]])
    text = page.render(model=tfsparse.dst(model))
    row = '<tr><td class="word">hidden</td><td>4</td><td>2</td><td class="word"></td></tr>'
    assert row in text[text.index("Channels without effect") :]
