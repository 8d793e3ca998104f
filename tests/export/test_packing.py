import gzip

import ml_dtypes
import numpy as np
import pytest
from export.sparse_arrays import ARRAYS, sparse

from tfsparse.export import packing


def decoded(file, count, dtype):
    """What the format says, entry by entry."""
    content, width = gzip.decompress(file), np.dtype(dtype).itemsize
    mask = content[: -(-count // 8)]
    is_nonzero = [bool(mask[i // 8] >> (7 - i % 8) & 1) for i in range(count)]
    planes, nonzero = content[len(mask) :], sum(is_nonzero)
    assert len(planes) == nonzero * width
    result, position = [], 0
    for is_stored in is_nonzero:
        result.append(planes[position::nonzero][:width] if is_stored else bytes(width))
        position += is_stored
    return np.frombuffer(b"".join(result), dtype)


def test_a_hand_made_file():
    """Entries 2 and 9 of ten live: bits 0010'0000 0100'0000, then low to high bytes of 1.5 and -2.0 in turn."""
    array = np.array([0, 0, 1.5, 0, 0, 0, 0, 0, 0, -2.0], "float32")
    assert gzip.decompress(packing.encode(array)).hex(" ") == "20 40 00 00 00 00 c0 00 3f c0"


@pytest.mark.parametrize("name", ARRAYS)
def test_every_bit_comes_back(name):
    array = ARRAYS[name]
    back = decoded(packing.encode(array), array.size, array.dtype)
    assert back.tobytes() == array.tobytes()


def test_minus_zero_is_not_a_zero():
    assert gzip.decompress(packing.encode(np.array([0.0, -0.0], "float32"))).hex(" ") == "40 00 00 00 80"


def test_a_large_array_has_several_files(monkeypatch):
    monkeypatch.setattr(packing, "ENTRIES_PER_FILE", 10)
    array = sparse((5, 5))
    pieces = packing.pieces(array)
    assert [p.size for p in pieces] == [10, 10, 5]
    assert np.array_equal(np.concatenate(pieces), array.reshape(-1))
    assert [p.size for p in packing.pieces(np.zeros(20))] == [10, 10]


def test_equal_arrays_make_equal_files():
    assert packing.encode(sparse((64, 64))) == packing.encode(sparse((64, 64)))


def test_patterns_are_compressed():
    """A matrix of which whole columns live costs nothing for its mask."""
    array = np.zeros((512, 512), "float32")
    array[:, 7] = 1.0
    assert len(packing.encode(array)) < 300


@pytest.mark.parametrize("sparsity, ratio", [(0.8, 5.0), (0.9, 9.5), (0.95, 17.0)])
def test_bytes_at_a_sparsity(sparsity, ratio):
    values = np.random.default_rng(1).normal(size=(512, 512)).astype("float32")
    values[np.abs(values) < np.quantile(np.abs(values), sparsity)] = 0
    assert values.nbytes / len(packing.encode(values)) > ratio


@pytest.mark.parametrize(
    "array, expected",
    [
        (sparse((64, 64), 0.9), True),
        (sparse((64, 64), 0.0), False),  # dense
        (sparse((64, 64), 0.1), False),  # gains too little
        (sparse((4096,), 0.9), False),  # a vector
        (sparse((32, 30), 0.9), False),  # gains less than the graph grows
        (sparse((64, 64), 0.9, dtype=ml_dtypes.bfloat16), True),
        (np.eye(128, dtype="int8"), False),  # what Keras has quantised stays as it is
    ],
)
def test_which_arrays_are_packed(array, expected):
    assert (packing.sparse_parts(array) is not None) == expected


def test_int8_of_a_hand_made_array():
    array = np.array([[0.0, -254.0, 0.0], [1.0, 100.0, 0.0]], "float32")
    stored, scale = packing.stored(array, "int8")
    assert stored.dtype == np.int8
    assert stored.tolist() == [[0, -127, 0], [127, 50, 0]]
    assert np.array_equal(scale, np.array([[1 / 127, 2.0, 1.0]], "float32"))


def test_int8_is_off_by_half_a_step_at_most():
    array = sparse((3, 3, 8, 16))
    stored, scale = packing.stored(array, "int8")
    assert scale.shape == (1, 1, 1, 16)
    assert np.all(np.abs(stored * scale - array) <= scale / 2 * 1.0001)
    assert np.all(stored[array == 0] == 0)


def test_channels_of_a_depthwise_kernel_have_scales_of_their_own():
    assert packing.stored(sparse((3, 3, 8, 1)), "int8")[1].shape == (1, 1, 8, 1)


@pytest.mark.parametrize("values", packing.value_types)
@pytest.mark.parametrize("shape", [(8, 4), (3, 3, 5, 7), (3, 3, 6, 1), (4, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_bytes_of_scales_are_known_without_them(values, shape, dtype):
    array = np.ones(shape, dtype)
    _, scale = packing.stored(array, values)
    assert packing.scale_bytes([array, array], values) == (0 if scale is None else 2 * scale.nbytes)


def test_float16_is_off_by_half_a_step_at_most():
    array = sparse((16, 16))
    stored, scale = packing.stored(array, "float16")
    assert stored.dtype == np.float16 and scale is None
    assert np.all(np.abs(stored - array) <= np.abs(array) * 2**-11 + 2**-25)
    assert np.all(stored[array == 0] == 0)


@pytest.mark.parametrize("values", packing.value_types)
@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_16_bit_floats_stay_as_they_are(values, dtype):
    array = sparse((8, 8), dtype=dtype)
    stored, scale = packing.stored(array, values)
    assert stored is array and scale is None


@pytest.mark.parametrize("number, values", [(7e4, "float16"), (np.nan, "float16"), (np.nan, "int8"), (-np.inf, "int8")])
def test_numbers_that_do_not_fit_are_refused(number, values):
    with pytest.raises(ValueError, match=f'values="{values}" cannot hold .*: use "float32"'):
        packing.stored(np.array([[number, 0.0]], "float32"), values)
