"""The difference of two methods by seed: its mean, and an interval that says what three seeds can say."""

import pytest

from tfsparse.experiments.differences import paired


def test_the_interval_is_students_over_the_differences_of_equal_seeds():
    found = paired({0: 1.0, 1: 2.0, 2: 3.0, 7: 100.0}, {2: 0.0, 1: 0.0, 0: 0.0, 8: 50.0})
    assert (found.n, found.mean) == (3, pytest.approx(2.0))
    assert found.margin == pytest.approx(4.302653 / 3**0.5)  # t with 2 degrees of freedom, in any table; deviation 1


def test_seeds_are_paired_so_what_they_share_cancels():
    easy_and_hard = {0: 0.90, 1: 0.95, 2: 0.99}
    found = paired({seed: value + 0.01 for seed, value in easy_and_hard.items()}, easy_and_hard)
    assert found.mean == pytest.approx(0.01) and found.margin == pytest.approx(0.0, abs=1e-12) and not found.is_noise


@pytest.mark.parametrize(("theirs", "is_noise"), [({0: 0.1, 1: 0.2}, True), ({0: 0.0, 1: 0.001}, False)])
def test_zero_in_the_interval_is_noise(theirs, is_noise):
    assert paired({0: 0.15, 1: 0.15}, theirs).is_noise == is_noise


def test_one_common_seed_has_a_difference_and_no_interval():
    found = paired({0: 0.5}, {0: 0.75, 1: 0.9})
    assert (found.mean, found.n, found.margin, found.is_noise) == (-0.25, 1, None, False)
    assert found.text() == "-0.2500 (n = 1)"


def test_without_a_common_seed_there_is_no_difference():
    assert paired({0: 0.5}, {1: 0.75}) is None


def test_the_text_has_as_many_digits_as_asked():
    assert paired({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.0}).text(2) == "+1.50 ± 6.35"


def test_a_difference_that_may_be_chance_is_marked():
    assert paired({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.0}).marked(2) == "+1.50 ± 6.35 ~"
    assert paired({0: 1.0, 1: 1.1}, {0: 0.0, 1: 0.0}).marked(2) == "+1.05 ± 0.64"
    assert paired({0: 0.5}, {0: 0.75}).marked() == "-0.2500 (n = 1)"
