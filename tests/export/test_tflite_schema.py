"""The sparse form of a tensor: what was written is read, and a form whose sizes cannot be true is refused."""

import numpy as np
import pytest
from export.sparse_arrays import sparse

from tfsparse.export import tflite_encoding, tflite_schema

ARRAY = sparse((8, 16), 0.75)


def form(width=1):
    """The stored entries, and what a file says about them."""
    encoded = tflite_encoding.encode(ARRAY, width)
    return encoded.values, tflite_schema.parameters(encoded)


@pytest.mark.parametrize("width", [1, 4, 16])
def test_an_array_is_read_as_it_was_written(width):
    values, parameters = form(width)
    assert np.array_equal(tflite_schema.decode(values, ARRAY.shape, parameters), ARRAY)


@pytest.mark.parametrize("shape", [(8, 2**40), (2**40, 16), (4, 16), (8, 15), (2, 4, 16)])
def test_another_shape_is_refused_before_memory_is_taken(shape):
    values, parameters = form(4)
    with pytest.raises(ValueError, match="contradict each other|more than|compressed axis"):
        tflite_schema.decode(values, shape, parameters)


def fewer_rows(parameters):
    parameters.dimMetadata[0].denseSize = 4


def falling_segments(parameters):
    parameters.dimMetadata[1].arraySegments.values = parameters.dimMetadata[1].arraySegments.values[::-1].copy()


def negative_columns(parameters):
    columns = parameters.dimMetadata[1].arrayIndices
    columns.values = columns.values.astype(np.int32) - 3


def a_column_too_few(parameters):
    columns = parameters.dimMetadata[1].arrayIndices
    columns.values = columns.values[:-1]


def wider_blocks(parameters):
    parameters.dimMetadata[2].denseSize = 2


@pytest.mark.parametrize("damage", [fewer_rows, falling_segments, negative_columns, a_column_too_few, wider_blocks])
def test_sizes_that_contradict_each_other_are_refused(damage):
    values, parameters = form(4)
    damage(parameters)
    with pytest.raises(ValueError, match=r"the sizes in the sparse tensor of shape \(8, 16\) contradict each other"):
        tflite_schema.decode(values, ARRAY.shape, parameters)


def test_axes_in_another_order_are_refused():
    values, parameters = form()
    parameters.traversalOrder = np.array([1, 0], np.int32)
    with pytest.raises(ValueError, match="compressed axis is not the last one"):
        tflite_schema.decode(values, ARRAY.shape, parameters)
