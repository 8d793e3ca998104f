import numpy as np
import pytest
from keras import ops

from tfsparse import pruners, testing

WEIGHT = np.array([[1.0, 3.0, 0.1], [5.0, 3.0, 8.0]], "float32")
GRADIENT = np.array([[0.0, 1.0, 1.0], [-1.0, -1.0, 0.1]], "float32")
# |w g| = 0, 3, 0.1; 5, 3, 0.8: the channels have 5, 6, 0.9, and their squares 25, 18, 0.65


@pytest.mark.parametrize(
    ("granularity", "golden"),
    [("weight", [[0, 1, 0], [1, 1, 0]]), ("channel", [[1, 0, 0], [1, 0, 0]])],
)
def test_golden_taylor(granularity, golden):
    count = {"weight": 3, "channel": 4}[granularity]
    (mask,) = pruners.Taylor(granularity).masks([WEIGHT], [GRADIENT], [np.ones((2, 3), "float32")], [count])
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), golden)


def test_saliency_would_keep_another_channel():
    (mask,) = pruners.Saliency("channel").masks([WEIGHT], [GRADIENT], [np.ones((2, 3), "float32")], [4])
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), [[0, 1, 0], [0, 1, 0]])


def test_taylor_passes_the_checks_outside_training():
    pruner = pruners.get("taylor")
    testing.check_config(pruner)
    testing.check_exact_count_with_ties(pruner)
    testing.check_monotone(pruner)
