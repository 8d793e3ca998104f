"""What all schedules have in common: window, updates, saving, names."""

import keras
import numpy as np
import pytest

from tfsparse import schedules
from tfsparse.schedules import Linear, OneCycle, Polynomial


def update_steps(schedule, total):
    return [step for step in range(1, total + 1) if bool(schedule.due(step, total))]


@pytest.mark.parametrize("name", schedules.names())
def test_ends_at_its_final_value_and_is_the_same_after_saving(name):
    schedule = schedules.get(name)
    assert schedule(1.0) == schedule.final == (0.0 if name == "dsd" else 1.0)
    assert float(schedule.fraction(997, 997)) == schedule.final
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again == schedule
    assert repr(again) == repr(schedule)


@pytest.mark.parametrize("total", [2, 7, 100])
def test_short_runs_update_at_every_step(total):
    assert update_steps(OneCycle(), total) == list(range(1, total + 1))


def test_updates_are_even_and_include_the_last_step():
    assert update_steps(OneCycle(updates=4), 10) == [1, 4, 7, 10]
    assert update_steps(OneCycle(updates=3), 10) == [1, 5, 9, 10]
    assert len(update_steps(OneCycle(updates=None), 50)) == 50
    assert len(update_steps(OneCycle(updates=10), 1003)) <= 11


def test_updates_are_inside_the_window():
    assert update_steps(Polynomial(start=0.2, end=0.8), 10) == [2, 3, 4, 5, 6, 7, 8]
    assert update_steps(Polynomial(start=0.2), 1000)[0] == 200  # in float32 0.2 * 1000 is 200.00000298


def test_a_subclass_decides_at_which_steps_of_the_window_masks_are_updated():
    class AtPowersOfTwo(Linear):
        def is_update(self, step, first, total):
            return keras.ops.equal(keras.ops.bitwise_and(step, step - 1), 0)

    assert update_steps(AtPowersOfTwo(start=0.1, end=0.9), 30) == [4, 8, 16, 27]  # and the last of the window


def test_the_fraction_is_exact_from_the_end_of_the_window():
    schedule = Linear(end=0.7)
    assert [float(schedule.fraction(step, 10)) for step in (7, 8, 10)] == [1, 1, 1]
    assert float(schedule.fraction(6, 10)) == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    "window", [{"start": 0.5, "end": 0.5}, {"start": 0.8, "end": 0.2}, {"end": 1.5}, {"start": -1}]
)
def test_the_window_must_be_two_fractions_in_order(window):
    with pytest.raises(ValueError, match="0 <= start < end <= 1"):
        Linear(**window)


@pytest.mark.parametrize("updates", [0, 0.5])
def test_the_number_of_updates_must_be_a_positive_integer(updates):
    with pytest.raises(ValueError, match="expected a positive integer"):
        Linear(updates=updates)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'one_cycle'"):
        schedules.get("onecycel")
    with pytest.raises(ValueError, match="no option 'alhpa'.*Did you mean 'alpha'"):
        schedules.get("one_cycle", alhpa=3)
    with pytest.raises(ValueError, match="expected one of"):
        schedules.get(3)


def test_get_takes_names_classes_dicts_and_instances():
    one = OneCycle(alpha=13)
    for identifier in (one, {"name": "one_cycle", "alpha": 13}, keras.saving.serialize_keras_object(one)):
        assert schedules.get(identifier) == one
    assert schedules.get(OneCycle, alpha=13) == schedules.get("OneCycle", alpha=13) == one


def test_plot_draws_the_curve():
    axes = OneCycle().plot(sparsity=0.9)
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(y, 0.9 * OneCycle()(x))
    assert axes.get_xlabel() == "fraction of training"
