import keras
import numpy as np
import pytest

from tfsparse.optimizers.learning_rates import StepRate


def test_warms_up_and_falls_in_steps():
    rate = StepRate(0.1, total_steps=20, boundaries=(0.5, 0.75), factor=0.1, warmup=0.2)
    values = [float(rate(step)) for step in (0, 1, 4, 9, 10, 14, 15, 40)]
    np.testing.assert_allclose(values, [0, 0.025, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


def test_comes_back_from_its_config():
    rate = StepRate(0.1, total_steps=20, boundaries=(0.5,), factor=0.2)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert again.get_config() == rate.get_config() and float(again(10)) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"first": 0},
        {"boundaries": (0.5, 0.2)},
        {"boundaries": (1.0,)},
        {"factor": 0},
        {"warmup": 1},
        {"total_steps": 0},
    ],
)
def test_refuses_what_is_no_schedule(options):
    with pytest.raises(ValueError, match="rising fractions of training"):
        StepRate(**{"first": 0.1, "total_steps": 10, **options})
