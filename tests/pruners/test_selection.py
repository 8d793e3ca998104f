import keras
import pytest

from tfsparse import testing
from tfsparse.pruners import selection


def test_only_kernels_are_prunable():
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(10, 8)(inputs)
    x = keras.layers.Conv1D(4, 3)(x)
    x = keras.layers.SeparableConv1D(4, 2)(x)
    x = keras.layers.LayerNormalization()(keras.layers.BatchNormalization()(x))
    x = keras.layers.LSTM(4)(x)
    x = keras.layers.EinsumDense("ab,bc->ac", 3, bias_axes="c")(x)
    model = keras.Model(inputs, x)
    names = [v.name for v in model.trainable_variables if selection.is_prunable(v)]
    assert names == ["kernel", "depthwise_kernel", "pointwise_kernel", "kernel", "recurrent_kernel", "kernel"]


def test_kernels_of_layers_and_variables():
    model = testing.small_model()
    hidden = model.get_layer("hidden")
    assert selection.kernels(hidden) == selection.kernels(hidden.kernel) == [hidden.kernel]
    assert len(selection.kernels(model)) == 3
    with pytest.raises(ValueError, match="nothing in it can be pruned"):
        selection.kernels(keras.layers.ReLU())


def test_overrides_survive_saving():
    model = testing.small_model()
    overrides = selection.Overrides(dense_names=["head"])
    overrides.set(model.get_layer("hidden").kernel, 0.5)
    from tfsparse import Magnitude

    targets = overrides.resolve(model.trainable_variables, Magnitude(), 0.75)
    again = selection.Overrides.from_config(overrides.get_config())
    assert targets == again.resolve(model.trainable_variables, Magnitude(), 0.75) == {0: 27, 2: 256}


def test_overrides_of_older_files_load():
    overrides = selection.Overrides.from_config({"places": {"2": 0.5}, "words": ["head"]})
    assert (overrides.sparsities, overrides.dense_names) == ({2: 0.5}, ["head"])
