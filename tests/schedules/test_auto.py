import numpy as np
import pytest

from tfsparse import schedules
from tfsparse.schedules import Auto, auto

LEVELS = (0.5, 0.8, 0.9)


def test_levels_are_tried_upwards_until_one_misses_then_the_middle_until_they_are_near():
    schedule = Auto(LEVELS, resolution=0.1)
    assert [schedule.next_level(held, 1) for held in (0, 0.5, 0.8, 0.9)] == [0.5, 0.8, 0.9, None]
    assert schedule.next_level(0.5, 0.8) == 0.65
    assert schedule.next_level(0.5, 0.6) is None and schedule.next_level(0.8, 0.9) is None
    assert schedule.next_level(0, 0.5) == 0.25


def test_a_level_of_float32_is_not_tried_twice():
    """It is a little below 0.9."""
    assert Auto((0.5, 0.9, 0.95)).next_level(float(np.float32(0.9)), 1) == 0.95


def test_levels_share_the_epochs_that_are_left():
    schedule = Auto(LEVELS)
    assert [schedule.num_epochs(level, 25) for level in LEVELS] == [5, 6, 8]
    assert schedule.num_epochs(0.5, 1) == 1


def test_masks_may_be_updated_in_all_of_training_at_the_fraction_that_is_the_target():
    schedule = Auto(LEVELS, updates=10)
    assert [step for step in range(1, 101) if schedule.due(step, 100)] == [*range(1, 100, 10), 100]
    assert all(float(schedule.fraction(step, 100)) == 1 for step in (1, 50, 100))


def test_auto_in_prune_means_this_schedule_and_its_last_level():
    assert auto.for_prune("one_cycle", "auto", None) == (Auto(), Auto().levels[-1])
    assert auto.for_prune("one_cycle", "auto", 0.02) == (Auto(drop=0.02), Auto().levels[-1])
    assert auto.for_prune(Auto(LEVELS), "auto", 0.02) == (Auto(LEVELS, drop=0.02), 0.9)
    assert auto.for_prune({"name": "auto", "levels": LEVELS}, "auto", None) == (Auto(LEVELS), 0.9)
    assert auto.for_prune("linear", 0.7, None) == (schedules.Linear(), 0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("polynomial", "auto", None), r"so does Polynomial\(.*\): leave the schedule out, or write tfsparse.Auto"),
        (("linear", 0.9, 0.01), 'drop=0.01 belongs to sparsity="auto"'),
        (("one_cycle", "auto", 0.5), r"half a point of accuracy is drop=0.005. Did you mean drop=0.005\?"),
        (("one_cycle", "auto", -1), "expected a number >= 0 in units of the metric"),
        (("one_cycle", "auto", float("nan")), "expected a number >= 0 in units of the metric"),
        (("one_cycle", "auto", True), "expected a number >= 0 in units of the metric"),
    ],
)
def test_arguments_of_prune_that_contradict_each_other_are_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        auto.for_prune(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (0.9, 0.5)}, "expected ascending sparsities"),
        ({"levels": (0.5, 1.0)}, "expected ascending sparsities"),
        ({"levels": ()}, "expected ascending sparsities"),
        ({"levels": (0.0, 0.5)}, "leave out 0"),
        ({"dense_until": 0.0}, "0 < dense_until < search_until < 1"),
        ({"search_until": 1.0}, "0 < dense_until < search_until < 1"),
        ({"dense_until": 0.8}, "0 < dense_until < search_until < 1"),
        ({"resolution": 0}, r"a sparsity in \(0, 1\)"),
    ],
)
def test_options_out_of_range_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        Auto(**options)


def test_a_large_drop_of_the_loss_is_possible():
    assert Auto(drop=2.0, metric="loss").drop == 2.0
