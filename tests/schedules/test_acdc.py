import keras
import numpy as np
import pytest

from tfsparse.schedules import ACDC

EPOCHS = [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85]  # where the paper's recipe switches


@pytest.mark.parametrize("total", [100, 1000, 78_200])
def test_golden_phases_of_the_paper(total):
    """Dense to epoch 10, sparse and dense by fives, dense from 75 to 85, sparse to 100. No other updates."""
    switches, steps = [epoch * total // 100 for epoch in EPOCHS], np.arange(1, total + 1)
    assert np.flatnonzero(keras.ops.convert_to_numpy(ACDC().due(steps, total))).tolist() == [s - 1 for s in switches]
    sparse = np.searchsorted(switches, steps, side="right") % 2
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(ACDC().fraction(steps, total)), sparse)


@pytest.mark.parametrize("total", [2, 3, 7, 19])
def test_masks_are_updated_where_the_value_changes_also_in_short_runs(total):
    schedule = ACDC(start=0.0, phase=0.1)
    values = [0.0] + [float(schedule.fraction(step, total)) for step in range(1, total + 1)]
    changes = [step for step in range(1, total + 1) if values[step] != values[step - 1]]
    assert all(bool(schedule.due(step, total)) for step in changes)
    assert values[-1] == 1


@pytest.mark.parametrize("options", [{"phase": 0}, {"last_dense": 0.9}, {"start": 0.8}])
def test_phases_must_be_in_order(options):
    with pytest.raises(ValueError, match="expected phase > 0 and start < last_dense < end"):
        ACDC(**options)
