"""When a training returns to an earlier stage."""

import pytest

from tfsparse.structured.stages.policy import is_worse


@pytest.mark.parametrize(
    "before, now, options, expected",
    [
        ([0.90, 0.92], [0.91, 0.89], {}, False),
        ([0.90, 0.95], [0.91, 0.92], {}, True),  # the best of each counts
        ([0.90, 0.95, 0.1], [0.95, 0.1], {}, False),
        ([0.3, 0.2], [0.25, 0.5], {"lower_is_better": True}, True),
        ([0.3, 0.2], [0.21, 0.5], {"lower_is_better": True}, False),
        ([], [0.1], {}, False),
        ([0.9], [], {}, False),
    ],
)
def test_a_stage_is_worse_beyond_the_tolerance(before, now, options, expected):
    assert is_worse(before, now, tolerance=0.02, **options) is expected
