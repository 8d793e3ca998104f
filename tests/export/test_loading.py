"""SavedModels are loaded as a whole, or without values, which are then read one at a time."""

import numpy as np
import pytest
import tensorflow as tf
from export.small_models import pruned

import tfsparse
from tfsparse.export import loading, rewriting


@pytest.fixture
def dense(tmp_path):
    model = pruned()
    model.export(tmp_path / "dense", verbose=False)
    return model, tmp_path / "dense"


def test_values_are_read_when_they_are_asked_for(dense):
    model, path = dense
    loaded, value = loading.load_lazily(path)
    variables = loaded.signatures["serve"].variables
    assert not any(v.is_initialized() for v in variables)
    for variable, weight in zip(variables, model.weights, strict=True):
        np.testing.assert_array_equal(value(variable), weight)
    assert not any(v.is_initialized() for v in variables)


def test_values_from_files_are_there_after_loading(dense, tmp_path):
    model, path = dense
    loaded, value = loading.load_lazily(tfsparse.export(path, tmp_path / "packed"))
    for variable, weight in zip(loaded.signatures["serve"].variables, model.weights, strict=True):
        np.testing.assert_array_equal(value(variable), weight)


class Counting(tf.Module):
    """A SavedModel whose state is more than its variables: a table that functions fill."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.eye(64, dtype="float32"))
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec([None, 64])])
    def serve(self, x):
        return tf.matmul(x, self.kernel) + tf.cast(self.table.lookup(tf.constant([7], tf.int64)), tf.float32)


def test_a_state_beside_the_variables_is_kept(tmp_path):
    model = Counting()
    model.table.insert(tf.constant([7], tf.int64), tf.constant([5], tf.int64))
    tf.saved_model.save(model, str(tmp_path / "theirs"), model.serve.get_concrete_function())
    packed = tfsparse.export(tmp_path / "theirs", tmp_path / "packed")
    assert rewriting.is_packed(packed)
    loaded = tf.saved_model.load(str(packed))
    np.testing.assert_array_equal(loaded.serve(tf.zeros((1, 64))), np.full((1, 64), 5.0))


def test_packed_weights_are_never_loaded(dense, tmp_path, monkeypatch):
    saved = []
    save = rewriting._save
    monkeypatch.setattr(rewriting, "_save", lambda root, *rest: (saved.append(root), save(root, *rest)))
    tfsparse.export(dense[1], tmp_path / "packed")
    (root,) = saved
    assert root.packed and not any(v.is_initialized() for v in root.packed)
    assert all(v.is_initialized() for v in root.variables if len(v.shape) == 1)
