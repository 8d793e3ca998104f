"""A value type, a form and a type of model from outside of the package, as the page on export shows them."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.small_models import examples, pruned
from keras import ops

import tfsparse
from tfsparse.export import packing, plain_models, sizes

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture
def own(monkeypatch, tmp_path):
    """What the page's example defines; the registries of the package are as before afterwards."""
    monkeypatch.setattr(packing, "value_types", dict(packing.value_types))
    for module, name in ((sizes, "_FORMS"), (plain_models, "_CONVERTERS")):
        monkeypatch.setattr(module, name, list(getattr(module, name)))
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").partition("\n## Your own")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    scope = {"model": pruned()}
    exec(compile(code, PAGE.name, "exec"), scope)
    return scope


def test_a_value_type_is_exported_and_measured(own):
    kernel = ops.convert_to_numpy(own["model"].get_layer("hidden").kernel)
    loaded = tf.saved_model.load("out")
    stored = loaded.packed[0].numpy()
    assert np.array_equal(stored, kernel.astype("bfloat16").astype("float32")) and not np.array_equal(stored, kernel)
    rows = {r.form: r for r in own["measured"].rows}
    assert rows["packed, float32"].sparse_bytes > rows["packed, bfloat16"].sparse_bytes
    assert rows["packed, bfloat16"].sparse_bytes == rows["SavedModel, bfloat16"].sparse_bytes


def test_a_form_is_a_row(own):
    row = own["measured"].rows[-1]
    others = 4 * (64 * 3 + 64 + 3)
    assert (row.form, row.sparse_bytes, row.bytes) == ("CSR", 6 * 410 + 4 * 65, 6 * 410 + 4 * 65 + others)


def test_a_type_of_model_is_exported_as_its_plain_model(own):
    loaded, x = tf.saved_model.load("members"), examples()
    assert np.allclose(loaded.serve(x), own["model"](x), atol=1e-6)


def test_an_unknown_type_of_model_is_refused(tmp_path):
    for dense in (False, True):
        with pytest.raises(ValueError, match="expected a Keras 3 model, a tf_keras model, or a SavedModel directory"):
            tfsparse.export(keras.layers.Dense(2), tmp_path / "out", dense=dense)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [*packing.value_types])
def test_every_value_type_keeps_zeros_and_shapes(values):
    array = np.array([[0.0, -254.0, 3.0], [1.0, 0.0, 0.0]], "float32")
    stored, scale = packing.value_types[values].store(array)
    assert stored.shape == array.shape and np.array_equal(stored == 0, array == 0)
    assert packing.value_types[values].scale_bytes(array) == (0 if scale is None else scale.nbytes)
