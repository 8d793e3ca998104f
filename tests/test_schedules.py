import keras
import numpy as np
import pytest

from tfsparse import schedules
from tfsparse.schedules import ACDC, DSD, Constant, Cosine, Iterative, Linear, OneCycle, OneShot, Polynomial

T = np.linspace(0, 1, 11)


@pytest.mark.parametrize(
    ("beta", "golden"),
    [
        (5, [0.006694, 0.026600, 0.099763, 0.310064, 0.645736, 0.880906, 0.967824, 0.991960, 0.998098, 0.999623, 1]),
        (6, [0.002473, 0.009955, 0.039179, 0.141899, 0.401447, 0.731304, 0.917135, 0.978447, 0.994847, 0.998976, 1]),
    ],
)
def test_one_cycle_golden(beta, golden):  # methods/one_cycle.md 1.1; the column for beta=5 is the authors' own output
    np.testing.assert_allclose(OneCycle(beta=beta)(T), golden, atol=1e-5)


def test_agp_golden():  # the authors' printed sparsities at the ends of 10 epochs, target 95 %
    golden = [0, 0, 31.36, 54.92, 71.81, 83.12, 89.99, 93.52, 94.81, 95.00]
    np.testing.assert_allclose(95 * Polynomial(start=0.2)(T[1:]), golden, atol=0.005)


def test_iterative_golden():  # the same; the value at an epoch's end is that of its last iteration, just before t
    golden = [0, 0, 31.67, 31.67, 63.33, 63.33, 63.33, 95, 95, 95]
    np.testing.assert_allclose(95 * Iterative(steps=3, start=0.2)(T[1:] - 1e-3), golden, atol=0.005)


def reference(name, t, start=0.0):
    """The formulas of methods/one_cycle.md 1.3, written once more."""
    p = (t - start) / (1 - start)
    if t < start:
        return 0.0
    return {
        "one_shot": 1.0,
        "iterative": np.ceil(round(p * 3, 9)) / 3,
        "agp": 1 + (0 - 1) * (1 - p) ** 3,
        "cos": 0 + (1 + np.cos(np.pi * (1 - p))) * (1 - 0) / 2,
        "lin": p,
        "dsd": (1 + np.cos(np.pi * (1 - 2 * p))) / 2 if p < 0.5 else 1 + (1 - np.cos(np.pi * (1 - 2 * p))) * -1 / 2,
    }[name]


@pytest.mark.parametrize(
    ("schedule", "name", "start"),
    [
        (OneShot(start=0.4), "one_shot", 0.4),
        (Iterative(), "iterative", 0.2),
        (Polynomial(), "agp", 0.2),
        (Cosine(), "cos", 0.0),
        (Linear(), "lin", 0.0),
        (DSD(), "dsd", 0.0),
    ],
)
def test_formulas(schedule, name, start):
    t = np.linspace(0, 1, 41)
    np.testing.assert_allclose(schedule(t), [reference(name, round(x, 6), start) for x in t], atol=1e-5)


@pytest.mark.parametrize("name", schedules.names())
def test_ends_where_it_says_and_survives_saving(name):
    schedule = schedules.get(name)
    assert schedule(1.0) == schedule.final == (0.0 if name == "dsd" else 1.0)
    assert float(schedule.fraction(997, 997)) == schedule.final
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again == schedule
    assert repr(again) == repr(schedule)


def due(schedule, total):
    return keras.ops.convert_to_numpy(schedule.due(np.arange(1, total + 1), total))


def due_steps(schedule, total):
    return [step for step in range(1, total + 1) if bool(schedule.due(step, total))]


@pytest.mark.parametrize("total", [2, 7, 100])
def test_short_runs_update_at_every_step(total):
    assert due_steps(OneCycle(), total) == list(range(1, total + 1))


def test_updates_are_even_and_include_the_last_step():
    assert due_steps(OneCycle(updates=4), 10) == [1, 4, 7, 10]
    assert due_steps(OneCycle(updates=3), 10) == [1, 5, 9, 10]
    assert len(due_steps(OneCycle(updates=None), 50)) == 50
    assert len(due_steps(OneCycle(updates=10), 1003)) <= 11


def test_the_window_decides():
    assert due_steps(Polynomial(start=0.2, end=0.8), 10) == [2, 3, 4, 5, 6, 7, 8]
    assert due_steps(Polynomial(start=0.2), 1000)[0] == 200  # float32 says 200.00000298
    assert due_steps(OneShot(start=0.4), 10) == [4]
    assert due_steps(OneShot(start=1.0), 10) == [10]
    assert due_steps(OneShot(start=0.0), 10) == [1]
    assert due_steps(Constant(updates=3), 10) == [1, 5, 9, 10]
    assert due_steps(Constant(end=0.5, updates=2), 10) == [1, 5]


AC_DC_EPOCHS = [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85]  # where the paper's recipe switches


@pytest.mark.parametrize("total", [100, 1000, 78_200])
def test_acdc_golden(total):
    """Dense to epoch 10, sparse and dense by fives, dense from 75 to 85, sparse to 100; due at the switches alone."""
    switches = [epoch * total // 100 for epoch in AC_DC_EPOCHS]
    assert np.flatnonzero(due(ACDC(), total)).tolist() == [s - 1 for s in switches]
    sparse = np.searchsorted(switches, np.arange(1, total + 1), side="right") % 2
    np.testing.assert_array_equal(np.asarray(ACDC().fraction(np.arange(1, total + 1), total)), sparse)


@pytest.mark.parametrize("total", [2, 3, 7, 19])
def test_acdc_is_due_where_its_value_changes_also_in_short_runs(total):
    schedule = ACDC(start=0.0, phase=0.1)
    values = [0.0] + [float(schedule.fraction(step, total)) for step in range(1, total + 1)]
    changes = [step for step in range(1, total + 1) if values[step] != values[step - 1]]
    assert set(changes) <= set(due_steps(schedule, total))
    assert values[-1] == 1


def test_fraction_is_exact_from_the_end_of_the_window():
    schedule = Linear(end=0.7)
    assert [float(schedule.fraction(step, 10)) for step in (7, 8, 10)] == [1, 1, 1]
    assert float(schedule.fraction(6, 10)) == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    "window", [{"start": 0.5, "end": 0.5}, {"start": 0.8, "end": 0.2}, {"end": 1.5}, {"start": -1}]
)
def test_bad_window(window):
    with pytest.raises(ValueError, match="0 <= start < end <= 1"):
        Linear(**window)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneShot(start=2),
        lambda: Iterative(steps=0),
        lambda: Linear(updates=0),
        lambda: Linear(updates=0.5),
        lambda: ACDC(phase=0),
        lambda: ACDC(last_dense=0.9),
        lambda: ACDC(start=0.8),
    ],
)
def test_bad_options(make):
    with pytest.raises(ValueError, match="expected"):
        make()


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
