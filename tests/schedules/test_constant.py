import pytest

from tfsparse.schedules import Constant


@pytest.mark.parametrize(
    ("options", "steps"), [({"updates": 3}, [1, 5, 9, 10]), ({"end": 0.5, "updates": 2}, [1, 5])]
)
def test_updates_are_spread_over_training_until_the_end(options, steps):
    schedule = Constant(**options)
    assert [s for s in range(1, 11) if bool(schedule.due(s, 10))] == steps
    assert all(float(schedule.fraction(s, 10)) == 1 for s in range(1, 11))
