import sys
import types
import zlib

import keras
import numpy as np
import pytest
from export.small_models import examples, pruned

import tfsparse
from tfsparse.export import packing, sizes, tflite


@pytest.fixture(scope="module")
def measured():
    return tfsparse.sizes(pruned(), representative=examples())


FLOATS = ("float32", "float16")


def weights(measured):
    """The rows of weights alone."""
    return [r for r in measured.rows if not r.form.startswith(("SavedModel", "TFLite"))]


def test_bytes_of_the_forms(measured):
    """A kernel of 64 x 64 with 410 weights that are not zero is packed, 64 x 3 and the biases are not."""
    rows = {r.form: r for r in measured.rows}
    others = 4 * (64 * 3 + 64 + 3)
    assert rows["raw weights"].sparse_bytes == 4 * 64 * 64
    assert rows["bitmask"].sparse_bytes == 64 * 64 // 8 + 4 * 410
    assert all(r.bytes == r.sparse_bytes + others for r in weights(measured))
    assert {r.memory_bytes for r in measured.rows if "TFLite" not in r.form} == {rows["raw weights"].bytes}
    packed = [rows[f"packed, {v}"].sparse_bytes for v in packing.value_types]
    assert rows["bitmask"].sparse_bytes > packed[0] > packed[1] > packed[2]
    assert measured.sparsity == pytest.approx(1 - 410 / 4096)


def test_a_recurrent_model_with_a_fixed_batch_has_tflite_files():
    layers = [keras.Input((5, 3), batch_size=1), keras.layers.LSTM(4)]
    rows = [row for row in tfsparse.sizes(keras.Sequential(layers)).rows if "TFLite" in row.form]
    assert len(rows) == 3 and all(row.bytes for row in rows)


def test_saved_models_are_those_of_export(measured, tmp_path):
    rows = {r.form: r for r in measured.rows}
    for values in packing.value_types:
        directory, row = tfsparse.export(pruned(), tmp_path / values, values=values), rows[f"SavedModel, {values}"]
        scales = 4 * 64 if values == "int8" else 0
        assert row.sparse_bytes == sum(f.stat().st_size for f in directory.glob("assets/*")) + scales
        graph = (directory / "saved_model.pb").stat().st_size  # names in it are not always equally long
        assert row.bytes == pytest.approx(sum(f.stat().st_size for f in directory.rglob("*.*")), abs=0.1 * graph)
    assert rows["SavedModel, dense"].bytes > rows["SavedModel, float32"].bytes


def test_packed_weights_take_the_same_bytes_alone_and_in_a_saved_model(measured):
    rows = {r.form: r for r in measured.rows}
    for values in packing.value_types:
        assert rows[f"packed, {values}"].sparse_bytes == rows[f"SavedModel, {values}"].sparse_bytes


def test_as_text_and_as_dict(measured):
    text = str(measured)
    assert "89.99%" in text and "SavedModel, int8" in text
    assert measured.as_dict()["rows"][0]["bytes"] == measured.rows[0].bytes


def test_a_dense_model_has_no_sparse_weights():
    measured = tfsparse.sizes(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]))
    assert measured.sparsity == 0.0
    assert {r.bytes for r in weights(measured)} == {4 * 36}
    assert [r.form for r in measured.rows if "TFLite" in r.form] == [f"TFLite, {v}" for v in ("dense", *FLOATS)]
    assert len({r.bytes for r in measured.rows if r.form in ("TFLite, dense", "TFLite, float32")}) == 1
    assert str(measured).count("-") > 4
    assert np.all([r.sparse_bytes in (0, None) for r in measured.rows])


def test_tflite_files_are_those_of_export_tflite(measured, tmp_path):
    rows = {r.form: r for r in measured.rows if "TFLite" in r.form}
    for values in tflite.VALUES:
        file = tfsparse.export_tflite(pruned(), tmp_path / values, values, representative=examples())
        assert rows[f"TFLite, {values}"].bytes == pytest.approx(file.bytes, abs=200)  # names are not equally long
    raw = measured.rows[0].bytes
    assert list(rows) == [f"TFLite, {v}" for v in ("dense", *tflite.VALUES)]
    assert raw < rows["TFLite, dense"].bytes < raw + 2_000 and rows["TFLite, float32"].bytes < raw / 3


def test_the_row_says_why_there_is_no_tflite_file():
    """An LSTM with an open batch; everything else is measured all the same."""
    measured = tfsparse.sizes(pruned("recurrent"))
    *others, last = measured.rows
    assert last.form == "TFLite, float32" and (last.bytes, last.sparse_bytes, last.memory_bytes) == (None, None, None)
    assert last.needs.startswith(
        "there is none: TFLite's converter: 'tf.TensorListReserve' op requires element_shape to be static"
    )
    assert others[-1].form == "SavedModel, int8" and all(r.bytes for r in others)
    assert "there is none" in str(measured) and measured.as_dict()["rows"][-1]["bytes"] is None


def test_tflite_of_an_open_shape_needs_examples():
    model = keras.Sequential([keras.Input((None, 8)), keras.layers.Dense(4)])
    row = tfsparse.sizes(model).rows[-1]
    assert row.bytes is None and row.needs.endswith("pass representative=<examples>.")
    assert tfsparse.sizes(model, np.ones((2, 5, 8), "float32")).rows[-1].form == "TFLite, int8"
    with pytest.raises(ValueError, match=r"representative has \(2, 5, 7\)"):
        tfsparse.sizes(model, np.ones((2, 5, 7)))


@pytest.mark.parametrize("module", ["compression.zstd", "zstandard", None])
def test_zstd_is_measured_where_it_is_installed(module, monkeypatch):
    """Python's own module first, then the package; without either there is no such row."""
    compress = {"compression.zstd": lambda b, level: zlib.compress(b, 1), "zstandard": lambda b: zlib.compress(b, 9)}
    own = types.SimpleNamespace(compress=compress["compression.zstd"])
    package = types.SimpleNamespace(ZstdCompressor=lambda level: types.SimpleNamespace(compress=compress["zstandard"]))
    is_own = module == "compression.zstd"
    monkeypatch.setitem(sys.modules, "compression", types.SimpleNamespace(zstd=own) if is_own else None)
    monkeypatch.setitem(sys.modules, "zstandard", package if module else None)
    array = pruned().layers[1].kernel.numpy()
    rows = {r.form: r.bytes for r in sizes._weights_alone(sizes.DenseModel(None, [array]))}
    expected = {"compression.zstd": 1, "zstandard": 9}
    assert ("zstd" in rows) == (module is not None)
    assert rows.get("zstd") == (module and len(zlib.compress(array.tobytes(), expected[module])))


def test_the_real_zstd():
    zstandard, array = pytest.importorskip("zstandard"), np.eye(64, dtype="float32")
    model = sizes.DenseModel(None, [array, np.ones(25, "float32")])
    (row,) = [r for r in sizes._weights_alone(model) if r.form == "zstd"]
    assert row.bytes == row.sparse_bytes + 100 == 100 + len(zstandard.ZstdCompressor(12).compress(array.tobytes()))
