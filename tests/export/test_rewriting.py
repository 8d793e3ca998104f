"""A directory that is no whole SavedModel is named by whatever reads it, and nothing is written."""

import os

import numpy as np
import pytest
import tensorflow as tf
from export.small_models import examples, pruned

import tfsparse


def cut(path, size):
    os.truncate(path, size)


DAMAGES = {
    "cut variables": lambda folder: cut(folder / "variables" / "variables.data-00000-of-00001", 1000),
    "cut index": lambda folder: cut(folder / "variables" / "variables.index", 100),
    "no variables": lambda folder: (folder / "variables" / "variables.index").unlink(),
    "cut graph": lambda folder: cut(folder / "saved_model.pb", 3000),
    "empty graph": lambda folder: cut(folder / "saved_model.pb", 0),
    "a page": lambda folder: (folder / "saved_model.pb").write_bytes(b"<!DOCTYPE html>"),
}


@pytest.fixture(params=DAMAGES)
def theirs(request, tmp_path):
    pruned().export(tmp_path / "theirs", verbose=False)
    DAMAGES[request.param](tmp_path / "theirs")
    return tmp_path / "theirs"


def test_a_damaged_saved_model_is_named(theirs):
    sources = [lambda: tfsparse.doctor(theirs, "savedmodel"), lambda: tfsparse.doctor(theirs, "tflite-cpu")]
    sources += [lambda: tfsparse.export(theirs, theirs.parent / "out")]
    sources += [lambda: tfsparse.export_tflite(theirs, theirs.parent / "out.tflite")]
    for read in sources:
        with pytest.raises(ValueError, match="theirs") as refused:
            read()
        assert "\n" not in str(refused.value)
    assert list(theirs.parent.iterdir()) == [theirs]


PATTERNS = ["out[1]", "folder[1]/out", pytest.param("a\\b", marks=pytest.mark.skipif(os.sep == "\\", reason="folders"))]


@pytest.mark.parametrize("name", [*PATTERNS, "out*?{a,b}"])
def test_a_target_may_be_what_tensorflow_takes_for_a_pattern(tmp_path, name):
    model, x = pruned(), examples()
    exported = tfsparse.export(model, tmp_path / name)
    assert tfsparse.export_tflite(model, tmp_path / f"{name}.tflite").difference < 1e-5
    assert {path.name for path in exported.parent.iterdir()} == {exported.name, f"{exported.name}.tflite"}
    loaded = tf.saved_model.load(str(exported.rename(tmp_path / "plain")))
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_source_that_tensorflow_takes_for_a_pattern_is_named(tmp_path, name):
    exported = tfsparse.export(pruned(), tmp_path / name, dense=True)
    for read in (lambda: tfsparse.export(exported, tmp_path / "a"), lambda: tfsparse.doctor(exported, "savedmodel")):
        with pytest.raises(ValueError, match=r"as a SavedModel; TensorFlow takes \[ and \\ in a path for a pattern"):
            read()


def test_a_directory_that_is_none_is_named(tmp_path):
    for write, name in ((tfsparse.export, "out"), (tfsparse.export_tflite, "out.tflite")):
        with pytest.raises(ValueError, match="Cannot load .*nowhere as a SavedModel"):
            write(tmp_path / "nowhere", tmp_path / name)
