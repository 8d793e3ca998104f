import keras
import numpy as np
import pytest

from tfsparse import FreeTicketsRate


def rates(rate, steps):
    return [float(rate(step)) for step in steps]


def test_golden_rates_are_those_of_the_authors():
    """450 epochs: 0.1 until 150; in each phase of 100 first 0.01, then 0.001."""
    epochs = (0, 149, 150, 199, 200, 249, 250, 299, 300, 350, 400, 449)
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.01, 0.01, 0.001, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(rates(FreeTicketsRate(0.1, 450), epochs), expected, rtol=1e-6)


def test_factor_and_phases_are_options():
    rate = FreeTicketsRate(1.0, total_steps=8, exploration=0.5, num_tickets=1, factor=0.5)
    assert rates(rate, range(8)) == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_it_is_saved_with_an_optimizer():
    optimizer = keras.optimizers.SGD(FreeTicketsRate(0.5, 12, 0.25, 2, 0.2))
    rate = keras.optimizers.SGD.from_config(optimizer.get_config())._learning_rate
    assert rate.get_config() == {"first": 0.5, "total_steps": 12, "exploration": 0.25, "num_tickets": 2, "factor": 0.2}


@pytest.mark.parametrize("options", [{"first": 0}, {"total_steps": 0}, {"factor": -1}])
def test_numbers_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match="expected positive numbers, for example"):
        FreeTicketsRate(**{"first": 0.1, "total_steps": 10} | options)
