import keras
import pytest

from tfsparse import testing
from tfsparse.pruners import selection


def test_kernels_are_prunable_and_nothing_else():
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


def test_wishes_survive_saving():
    model = testing.small_model()
    wishes = selection.Overrides(words=["head"])
    wishes.set(model.get_layer("hidden").kernel, 0.5)
    from tfsparse import Magnitude

    targets = wishes.resolve(model.trainable_variables, Magnitude(), 0.75)
    again = selection.Overrides(**wishes.get_config())
    assert targets == again.resolve(model.trainable_variables, Magnitude(), 0.75) == {0: 27, 2: 256}
