"""Random numbers from hashes: golden bits, which no release may change, since resumed runs depend on them."""

import numpy as np
import pytest
from keras import ops

from tfsparse.backend import hashing
from tfsparse.backend import ops as backend_ops


def mix32(x: int) -> int:
    """The hash in Python's integers."""
    x %= 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> shift)) * factor % 2**32
    return x


def test_mix32_golden():
    values = ops.cast(ops.convert_to_tensor(np.array([0, 1, 2, 3], "int32")), "uint32")
    golden = [0x0, 0x688990c0, 0xd1132181, 0x53f1e9dd]
    assert [mix32(x) for x in range(4)] == golden
    assert ops.convert_to_numpy(hashing.mix32(values)).tolist() == golden


@pytest.mark.parametrize("compiled", [False, True])
def test_hash_uniform_golden(compiled):
    function = backend_ops.compiled(lambda: hashing.hash_uniform((2, 3), seed=5, index=2, step=7))
    result = function() if compiled else hashing.hash_uniform((2, 3), seed=5, index=2, step=7)
    key = 1_000_003 * 5 + 7919 * 2 + 1 + mix32(7)
    expected = [(mix32(entry + key) >> 9) * 2.0**-24 + 0.5 for entry in range(6)]
    np.testing.assert_array_equal(ops.convert_to_numpy(result), np.reshape(expected, (2, 3)).astype("float32"))


def test_hash_signs_golden():
    key = mix32(mix32(3) + 4)
    expected = [1 - 2 * (mix32(mix32(entry) ^ key) >> 31) for entry in range(10, 22)]
    result = hashing.hash_signs((4, 3), seed=3, index=4, first=10)
    np.testing.assert_array_equal(ops.convert_to_numpy(result), np.reshape(expected, (4, 3)))


def test_numbers_are_uniform_and_differ_by_seed_index_and_step():
    numbers = [
        ops.convert_to_numpy(hashing.hash_uniform((10_000,), *arguments))
        for arguments in ((0, 0), (1, 0), (0, 1), (0, 0, 1))
    ]
    for uniform in numbers:
        np.testing.assert_allclose(np.histogram(uniform, bins=10, range=(0.5, 1))[0], 1000, atol=150)
    assert all(not np.array_equal(numbers[0], other) for other in numbers[1:])
