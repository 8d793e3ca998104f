"""Models as users have them: masked, shrunk, and the outputs are the masked model's.

`benchmarks/channels.py` does this for all of keras.applications and writes the table of docs/shrinking.md.
"""

import pathlib
import sys

import pytest
from thoroughly import also

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import channels


@pytest.mark.parametrize("name", ["MobileNetV3Small", *also(["ResNet50V2", "ConvNeXtTiny"])])
def test_shrinks_to_what_the_masked_model_gives(name):
    row = channels.measure(name)
    assert row["relative_difference"] <= 1e-4
    assert row["spread_of_outputs"] > 1e-3  # so that equal outputs mean something
    assert row["frozen"] < row["groups"]
    before, foretold, after = row["macs"]
    assert after == foretold < before
    before, foretold, after = row["trainable"]
    assert after == foretold < before
