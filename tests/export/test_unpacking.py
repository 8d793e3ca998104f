import numpy as np
import pytest
import tensorflow as tf
from export.sparse_arrays import ARRAYS

from tfsparse.export import packing, unpacking


@pytest.mark.parametrize("name", ARRAYS)
def test_tensorflow_unpacks_every_bit_that_numpy_packed(name):
    array = ARRAYS[name]
    rows = unpacking.unpack(packing.encode(array), array.size, array.dtype.itemsize)
    assert rows.shape == (array.size, array.dtype.itemsize)
    assert rows.numpy().tobytes() == array.tobytes()


def packed(tmp_path, array, values="float32"):
    """A variable to fill from files, and what fills it."""
    stored, scale = packing.stored(array, values)
    files = []
    for i, piece in enumerate(packing.pieces(stored)):
        (tmp_path / f"{i}.gz").write_bytes(packing.encode(piece))
        files.append(tf.saved_model.Asset(str(tmp_path / f"{i}.gz")))
    variable = tf.Variable(tf.ones(array.shape, array.dtype))
    counts = [p.size for p in packing.pieces(stored)]
    return variable, unpacking.VariableFromFiles(variable, "name", files, counts, stored.dtype, scale)


@pytest.mark.parametrize("name", ["sparse", "all zero", "special", "float64", "float16", "bfloat16"])
def test_a_variable_is_filled_with_every_bit(name, tmp_path):
    variable, resource = packed(tmp_path, ARRAYS[name])
    resource._initialize()
    assert variable.numpy().tobytes() == ARRAYS[name].tobytes()


def test_a_variable_from_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "ENTRIES_PER_FILE", 100)
    array = ARRAYS["sparse"]
    variable, resource = packed(tmp_path, array)
    resource._initialize()
    assert len(resource.files) == 5
    assert np.array_equal(variable.numpy(), array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_variable_from_int8(tmp_path, dtype):
    array = ARRAYS["sparse"].astype(dtype)
    variable, resource = packed(tmp_path, array, "int8")
    resource._initialize()
    stored, scale = packing.stored(array, "int8")
    assert np.array_equal(variable.numpy(), stored.astype(dtype) * scale)
