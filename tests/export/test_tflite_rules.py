"""The form in which a weight is stored, and when the sparse kernel makes it faster."""

import numpy as np
import pytest

from tfsparse.export import tflite_rules as rules

DENSE, CONVOLUTION, TRANSPOSED = ({name} for name in ("FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV"))


def blocks(sparsity, shape=(64, 256), dtype="float32"):
    """A weight whose blocks of four inputs are empty at random."""
    random = np.random.default_rng(0)
    keep = random.permutation(np.arange(shape[0] * shape[1] // 4) >= sparsity * shape[0] * shape[1] / 4)
    return (np.repeat(keep, 4) * random.uniform(1, 9, keep.size * 4)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    "weight, operations, stored, runs_sparse",
    [
        (blocks(0.75), DENSE, True, True),
        (blocks(0.74), DENSE, True, False),
        (blocks(0.1), DENSE, False, False),
        (blocks(0.9, dtype="float16"), DENSE, True, False),
        (blocks(0.9), CONVOLUTION, True, False),
        (blocks(0.9), DENSE | CONVOLUTION, True, False),
        (blocks(0.9), TRANSPOSED, True, False),
        (blocks(0.9, dtype="float16"), TRANSPOSED, False, False),
        (blocks(0.9), {"GATHER"}, False, False),
        (blocks(0.9), set(), False, False),
        (blocks(0.9, (4, 32), "int8"), DENSE, False, False),
        (np.zeros((0, 4), "float32"), DENSE, False, False),
    ],
    ids=range(12),
)
def test_the_form_of_a_weight(weight, operations, stored, runs_sparse):
    form = rules.choose_form(weight, operations)
    assert (form.encoded is not None, form.runs_sparse) == (stored, runs_sparse)


def test_scales_count_as_bytes_of_the_sparse_form():
    weight = blocks(0.6, (64, 128), "int8")
    assert rules.choose_form(weight, DENSE, num_scales=1).encoded is not None
    assert rules.choose_form(weight, DENSE, num_scales=1_000).encoded is None


@pytest.mark.parametrize(
    "weight, obstacle",
    [
        (blocks(0.9), ""),
        (blocks(0.9, (64, 258))[:, :255], "the sparse kernel takes multiples of 4 inputs, and here are 255"),
        (blocks(0.7), "the sparse kernel is taken from 75% zeros on"),
        (np.roll(blocks(0.8), 2, axis=1), "zeros do not stand in blocks"),
    ],
    ids=["blocks", "inputs", "zeros", "pattern"],
)
def test_why_the_sparse_kernel_is_not_used(weight, obstacle):
    assert rules.kernel_obstacle(weight) == obstacle


@pytest.mark.parametrize(
    "size, sparsity, network_bytes, is_faster",
    [
        (2**16, 0.8, 2**21, True),
        (2**16 - 1, 0.99, 2**30, False),
        (2**16, 0.84, 2**20, False),
        (2**16, 0.85, 2**20, True),
    ],
)
def test_when_the_sparse_kernel_is_faster(size, sparsity, network_bytes, is_faster):
    assert (rules.speed_obstacle(size, sparsity, network_bytes) == "") == is_faster
