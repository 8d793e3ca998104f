import keras
import numpy as np
import pytest
from export.small_models import pruned

import tfsparse
from tfsparse.export import packing


@pytest.fixture(scope="module")
def measured():
    return tfsparse.sizes(pruned())


def test_forms_and_what_they_take(measured):
    """A kernel of 64 x 64 with 410 living weights is packed, 64 x 3 and the biases are not."""
    rows = {r.form: r for r in measured.rows}
    others = 4 * (64 * 3 + 64 + 3)
    assert rows["raw weights"].sparse_bytes == 4 * 64 * 64
    assert rows["bitmask"].sparse_bytes == 64 * 64 // 8 + 4 * 410
    assert all(r.bytes == r.sparse_bytes + others for r in measured.rows if not r.form.startswith("SavedModel"))
    assert {r.memory for r in measured.rows} == {rows["raw weights"].bytes}
    packed = [rows[f"packed, {v}"].sparse_bytes for v in packing.VALUES]
    assert rows["bitmask"].sparse_bytes > packed[0] > packed[1] > packed[2]
    assert measured.sparsity == pytest.approx(1 - 410 / 4096)


def test_saved_models_are_those_of_export(measured, tmp_path):
    rows = {r.form: r for r in measured.rows}
    for values in packing.VALUES:
        directory, row = tfsparse.export(pruned(), tmp_path / values, values=values), rows[f"SavedModel, {values}"]
        assert row.sparse_bytes == sum(f.stat().st_size for f in directory.glob("assets/*"))
        graph = (directory / "saved_model.pb").stat().st_size  # names in it are not always equally long
        assert row.bytes == pytest.approx(sum(f.stat().st_size for f in directory.rglob("*.*")), abs=0.1 * graph)
    assert rows["SavedModel, dense"].bytes > rows["SavedModel, float32"].bytes


def test_int8_counts_its_scales(measured):
    rows = {r.form: r for r in measured.rows}
    assert rows["packed, int8"].sparse_bytes == rows["SavedModel, int8"].sparse_bytes + 4 * 64


def test_as_text_and_as_dict(measured):
    text = str(measured)
    assert "89.99%" in text and "SavedModel, int8" in text
    assert measured.as_dict()["rows"][0]["bytes"] == measured.rows[0].bytes


def test_a_dense_model():
    measured = tfsparse.sizes(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]))
    assert measured.sparsity == 0.0
    assert {r.bytes for r in measured.rows[:6]} == {4 * 36}
    assert str(measured).count("-") > 4
    assert np.all([r.sparse_bytes in (0, None) for r in measured.rows])
