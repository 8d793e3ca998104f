"""The rules of activation density: golden numbers."""

import pytest

from tfsparse.methods.activation_density import rules


@pytest.mark.parametrize(
    "width, density, options, expected",
    [
        (64, 0.4, {}, 26),  # 25.6
        (5, 0.5, {}, 3),  # 2.5: a half goes up
        (3, 0.5, {}, 2),  # 1.5
        (9, 0.5, {}, 5),  # 4.5, which Python would round to 4
        (64, 0.0, {}, 1),  # a layer never has no channel
        (64, 0.01, {"smallest": 8}, 8),
        (6, 0.1, {"smallest": 8}, 6),  # never wider than it was
        (64, 1.0, {}, 64),
        (64, 0.4, {"multiple": 8}, 24),
        (64, 0.45, {"multiple": 8}, 32),  # 28.8 is nearer to 32
        (64, 0.01, {"smallest": 3, "multiple": 8}, 8),
        (20, 0.95, {"multiple": 8}, 16),  # 2.375 eights
        (20, 1.0, {"multiple": 8}, 20),  # 2.5 eights are more than there are
        (64, 0.4, {"min_kept": 0.75}, 48),
        (64, 0.9, {"min_kept": 0.75}, 58),  # a denser layer keeps more
        (10, 0.1, {"min_kept": 0.75, "smallest": 9}, 9),
    ],
)
def test_the_new_width_is_width_times_density(width, density, options, expected):
    assert rules.new_width(width, density, **options) == expected


def test_densities_are_saturated_when_their_range_is_below_the_tolerance():
    rest = [[0.9], [0.500], [0.509], [0.505]]
    assert rules.is_saturated(rest, window=3, tolerance=0.01)
    assert not rules.is_saturated(rest, window=3, tolerance=0.009)  # strictly narrower
    assert not rules.is_saturated(rest, window=4, tolerance=0.01)  # 0.9 still counts
    assert not rules.is_saturated(rest[1:], window=4, tolerance=0.01)  # too few epochs to know


def test_one_layer_in_twenty_need_not_be_saturated():
    rest = [[0.5] * 20, [0.5] * 19 + [0.9]]
    assert rules.is_saturated(rest, window=2, tolerance=0.01)
    assert not rules.is_saturated([row[1:] for row in rest], window=2, tolerance=0.01)  # one in nineteen


@pytest.mark.parametrize(
    "densities, options, expected",
    [
        ([0.5, 0.5], {}, True),
        ([0.5, 0.7], {}, False),
        ([0.5, 0.5], {"min_epochs": 3}, False),  # not so soon after the last resize
        ([0.5, 0.5], {"epochs_left": 1}, False),  # not so near to the end
        ([0.5, 0.7, 0.9], {"max_epochs": 3}, True),  # forced
        ([0.5, 0.7, 0.9], {"max_epochs": 4}, False),
        ([0.5, 0.7, 0.9], {"max_epochs": 3, "epochs_left": 1}, False),
    ],
)
def test_when_a_resize_is_due(densities, options, expected):
    rest = {"window": 2, "tolerance": 0.01, "min_epochs": 2, "max_epochs": 9, "epochs_left": 2} | options
    assert rules.is_due([[d] for d in densities], **rest) is expected


def test_the_densest_channels_stay():
    assert rules.densest_channels([0.1, 0.5, 0.5, 0.9], [9, 1, 2, 0], 2).tolist() == [2, 3]  # a tie: the larger norm
    assert rules.densest_channels([0.5, 0.5, 0.5], [1, 1, 1], 2).tolist() == [0, 1]  # then the lower index
    assert rules.densest_channels([0.1, 0.2], [0, 0], 2).tolist() == [0, 1]
