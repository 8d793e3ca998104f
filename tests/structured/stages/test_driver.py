"""What a training costs. Whole trainings are in the tests of each method."""

from tfsparse.structured.stages.driver import training_complexity


def test_training_complexity_of_a_training_that_halves_twice():
    macs = [100] * 4 + [50] * 4 + [25] * 2
    assert training_complexity(macs, dense=100) == 0.65  # (400 + 200 + 50) / 1000
