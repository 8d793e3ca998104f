import numpy as np
import pytest
from keras import ops

from tfsparse.masks import wide_counts

LARGE = [2_000_000_000, 3, 1_999_999_999, 65_536, 2**31 - 1]


def value(high, low):
    return ops.convert_to_numpy(high).astype("int64") * 2**16 + ops.convert_to_numpy(low)


def test_sums_beyond_31_bits_are_exact():
    terms = np.array(LARGE, "int32")
    assert value(*wide_counts.add(terms)) == sum(LARGE)
    assert value(*wide_counts.add(-terms, *wide_counts.add(terms))) == 0
    np.testing.assert_array_equal(value(*wide_counts.sums_after(terms)), [sum(LARGE[i + 1 :]) for i in range(5)])


@pytest.mark.parametrize("count", [0, 7, 2**31 - 1, 2**31, 3_000_000_000, 10**12])
def test_the_terms_of_a_count_sum_to_it(count):
    terms = ops.convert_to_numpy(wide_counts.terms(count))
    assert terms.dtype == np.int32 and int(np.sum(terms, dtype="int64")) == count


@pytest.mark.parametrize(("count", "expected"), [(-5, 0), (0, 0), (65_537, 65_537), (2**32, 2**31 - 1)])
def test_a_narrow_count_stays_within_int32(count, expected):
    high, low = np.int32(count >> 16), np.int32(count & 0xFFFF)
    assert int(wide_counts.narrow(high, low)) == expected


def test_vectors_are_made_of_numbers_and_tensors():
    vector = wide_counts.as_vector([None, 2, ops.convert_to_tensor(3)])
    assert ops.convert_to_numpy(vector).tolist() == [0, 2, 3]
    assert ops.convert_to_numpy(wide_counts.as_vector((4, 5))).tolist() == [4, 5]
