"""Arrays in which every kind of entry occurs."""

import ml_dtypes
import numpy as np

SPECIAL = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.0], "float32")


def sparse(shape, sparsity=0.9, dtype="float32"):
    random = np.random.default_rng(0)
    return (random.normal(size=shape) * (random.random(shape) >= sparsity)).astype(dtype)


ARRAYS = {
    "sparse": sparse((37, 11)),
    "all zero": np.zeros((4, 4), "float32"),
    "no zero": np.ones((4, 5), "float32"),
    "one entry": np.full((1, 1), 2.5, "float32"),
    "one zero": np.zeros((1, 1), "float32"),
    "special": SPECIAL.reshape(2, 4),
    "signalling nan": np.array([[0, 0x7F800001, 0xFFC12345]], "uint32").view("float32"),
    "float64": sparse((9, 9), dtype="float64"),
    "float16": sparse((9, 9), dtype="float16"),
    "bfloat16": sparse((9, 9), dtype=ml_dtypes.bfloat16),
    "int8": sparse((9, 9), 0.5, "float64").round().astype("int8"),
    "not contiguous": sparse((8, 6)).T,
}
