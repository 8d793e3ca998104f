import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from tensorflow_model_optimization.sparsity import keras as stock

from tfsparse import schedules as shared
from tfsparse import tfmot
from tfsparse.tfmot import schedules

KINDS = ["OneCycle", "Polynomial", "OneShot", "Iterative", "Constant", "Linear", "Cosine", "DSD"]


def _step(number):
    return tf.constant(number, tf.int64)


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_schedule_in_fractions_over_its_window(name):
    schedule = getattr(tfmot, name)(0.8, end_step=50, begin_step=10)
    assert isinstance(schedule, stock.PruningSchedule)
    formula = type(schedule.formula)(**schedule.formula.get_config())
    assert isinstance(formula, getattr(shared, name))
    for step in range(61):
        due, sparsity = schedule(_step(step))
        t = (step - 10) / 40
        expected = formula.final if t >= 1 else formula(max(t, 0.0)) if t >= 0 else formula(0.0) * (t >= 0)
        assert float(sparsity) == pytest.approx(0.8 * expected, abs=1e-6), step
        assert bool(due) == bool(formula.due(step - 10, 40)), step


def test_golden_values_of_one_cycle():
    schedule = tfmot.OneCycle(1 - 1e-9, end_step=4)
    values = [round(float(schedule(_step(k))[1]), 4) for k in range(1, 5)]
    assert values == [0.1824, 0.8809, 0.9961, 1.0]
    assert [bool(schedule(_step(k))[0]) for k in range(6)] == [False, True, True, True, True, False]


def test_one_shot_fires_at_its_end_step():
    schedule = tfmot.OneShot(0.5, end_step=7)
    assert [k for k in range(12) if schedule(_step(k))[0]] == [7]


def test_starts_from_initial_sparsity_and_ends_exactly():
    schedule = tfmot.Linear(0.9, end_step=30, begin_step=10, initial_sparsity=0.4)
    assert float(schedule(_step(20))[1]) == pytest.approx(0.65)
    assert float(schedule(_step(30))[1]) == np.float32(0.9)
    assert schedule.final_sparsity == pytest.approx(0.9)
    assert tfmot.DSD(0.9, end_step=30).final_sparsity == 0


@pytest.mark.parametrize("name", KINDS)
def test_a_schedule_is_rebuilt_from_its_config(name):
    schedule = getattr(tfmot, name)(0.8, end_step=50, begin_step=10, initial_sparsity=0.1)
    back = tf_keras.utils.deserialize_keras_object(schedule.get_config())
    assert type(back) is type(schedule)
    assert back == schedule
    assert back != getattr(tfmot, name)(0.8, end_step=51, begin_step=10, initial_sparsity=0.1)


def test_prunes_in_the_stock_wrapper():
    model = stock.prune_low_magnitude(models.small(), tfmot.OneCycle(0.8, end_step=16))
    models.fit(models.compiled(model), stock.UpdatePruningStep())
    sizes = [k.size for k in models.kernels(model)]
    assert [np.sum(k == 0) for k in models.kernels(model)] == [round(0.8 * n) for n in sizes]


def test_errors_say_what_to_write():
    with pytest.raises(ValueError, match="begin_step=5, end_step=5"):
        tfmot.OneCycle(0.8, end_step=5, begin_step=5)
    with pytest.raises(ValueError, match=r"Did you mean sparsity=0\.8\?"):
        tfmot.OneCycle(80, end_step=5)
    with pytest.raises(ValueError, match="OneCycle has no option 'alhpa'.* Did you mean 'alpha'"):
        tfmot.OneCycle(0.8, end_step=5, alhpa=3)


def _due(schedule, last=40):
    return [k for k in range(last) if schedules.at_step(schedule, _step(k))[0]]


def test_masks_are_updated_at_the_end_step_and_for_step_zero_of_stock_schedules():
    assert _due(stock.PolynomialDecay(0, 0.9, 0, 30, frequency=16)) == [0, 1, 16, 30]
    assert _due(stock.ConstantSparsity(0.5, 0)) == [0, 1]
    assert _due(stock.ConstantSparsity(0.5, 3, frequency=16)) == [3, 19, 35]


def test_num_pruned_is_exact_where_float32_is_not():
    size, schedule = 25_000_001, stock.ConstantSparsity(0.9, 0)
    assert int(schedules.num_pruned(schedule, schedule(_step(1))[1], size, 1, round(0.9 * size))) == round(0.9 * size)
    halfway = stock.PolynomialDecay(0.0, 0.8, 0, 10, power=1)
    assert int(schedules.num_pruned(halfway, halfway(_step(5))[1], 1000, 1, 800)) == 400


class Hesitant(stock.PruningSchedule):
    """A user's schedule, which has no end_step."""

    def __call__(self, step):
        due = False
        if step > 20:  # a tensor: works because Keras converts what it traces, and so must we
            due = True
        return due, tf.constant(0.5)

    def get_config(self):
        return {"class_name": "Hesitant", "config": {}}


def test_fires_and_describe():
    assert not schedules.fires(Hesitant(), 1, 20)
    assert schedules.fires(Hesitant(), 1, 21)
    assert schedules.final_sparsity(Hesitant()) is None
    assert schedules.describe(Hesitant()) == "Hesitant()"
    assert schedules.describe(stock.ConstantSparsity(0.5, 3)).startswith("ConstantSparsity(target_sparsity=0.5, begin")
    assert schedules.describe(tfmot.Linear(0.5, 9)).startswith("Linear(sparsity=0.5, end_step=9, begin_step=0")
