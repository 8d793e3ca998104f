"""A directory that is no whole SavedModel is named by whatever reads it, and nothing is written."""

import os

import pytest
from export.small_models import pruned

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


def test_a_directory_that_is_none_is_named(tmp_path):
    for write, name in ((tfsparse.export, "out"), (tfsparse.export_tflite, "out.tflite")):
        with pytest.raises(ValueError, match="Cannot load .*nowhere as a SavedModel"):
            write(tmp_path / "nowhere", tmp_path / name)
