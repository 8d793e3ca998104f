"""What variables hold."""

import keras
import numpy as np
import pytest
from keras import ops

from tfsparse.backend import variables


def test_zeros_are_counted_over_all_entries():
    arrays = ([[0.0, 1.0], [-0.0, 2.0]], [3.0, 0.0])
    assert variables.zero_fraction([keras.Variable(array) for array in arrays]) == 0.5


def test_values_are_put_back_also_after_an_error():
    variable = keras.Variable([1.0, 2.0])
    with pytest.raises(KeyError), variables.restored([variable]):
        variable.assign([5.0, 6.0])
        raise KeyError
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), [1.0, 2.0])
