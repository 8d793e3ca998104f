"""Functions that see one entry only."""

import keras
import pytest
from keras import ops

from tfsparse.backend import keras_internals
from tfsparse.structured import elementwise


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "silu", "gelu", "tanh", "elu", "hard_sigmoid", "linear"])
def test_activations_of_one_entry(name):
    assert elementwise.is_elementwise(keras.activations.get(name))


@pytest.mark.parametrize("function", [keras.activations.softmax, keras.activations.glu, lambda x: x, ops.log_softmax])
def test_functions_that_may_look_elsewhere(function):
    assert not elementwise.is_elementwise(function)


def test_which_make_zeros():
    zeros = {name for name in ("relu", "relu6", "gelu", "sigmoid", "elu", "silu") if
             elementwise.gives_zeros(keras.activations.get(name))}  # fmt: skip
    assert zeros == {"relu", "relu6"}


def test_operations_by_the_functions_that_make_them():
    (kind,) = elementwise.operations([ops.relu])
    inputs = keras.Input((3,))
    assert type(keras_internals.operation_of(ops.relu(inputs))) is kind
    (both,) = elementwise.operations([lambda x, y: x + y], num_arguments=2)
    assert type(keras_internals.operation_of(inputs + inputs)) is both
