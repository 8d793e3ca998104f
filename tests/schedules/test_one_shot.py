import numpy as np
import pytest

from tfsparse.schedules import OneShot


def test_formula():
    t = np.linspace(0, 1, 41)
    np.testing.assert_allclose(OneShot(start=0.4)(t), t >= 0.4, atol=1e-5)


@pytest.mark.parametrize(("start", "step"), [(0.0, 1), (0.4, 4), (1.0, 10)])
def test_the_only_update_is_at_the_start(start, step):
    schedule = OneShot(start=start)
    assert [s for s in range(1, 11) if bool(schedule.due(s, 10))] == [step]


def test_a_file_that_calls_the_argument_at_is_loaded():
    assert OneShot.from_config({"at": 0.25}) == OneShot(start=0.25)


def test_the_start_must_be_a_fraction():
    with pytest.raises(ValueError, match="start=2: expected a fraction"):
        OneShot(start=2)
