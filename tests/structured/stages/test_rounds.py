"""When rounds take place, and how many channels are gone after each."""

import pytest

from tfsparse.structured.stages.record import Position
from tfsparse.structured.stages.rounds import RoundOptions, RoundsPolicy


class Policy(RoundsPolicy):
    def kept_channels(self, probe, entries, position):
        raise NotImplementedError


def policy(**options):
    return Policy(RoundOptions(**options))


def dues(epochs, **options):
    """The epochs after which a training of so many epochs resizes."""
    done, found = Position(), []
    for epoch in range(1, epochs + 1):
        if policy(**options).is_due([{}] * epoch, done, epochs - epoch):
            found.append(epoch)
            done.stage += 1
    return found


def test_rounds_are_at_equal_distances_with_training_after_the_last():
    assert dues(30, rounds=4) == [6, 12, 18, 24]
    assert dues(11, rounds=4) == [2, 4, 6, 8]
    assert dues(5, rounds=4) == [1, 2, 3, 4]
    assert dues(30, rounds=2, every=3) == [3, 6]


def test_after_a_stop_nothing_is_due():
    assert policy().is_due([{}] * 6, Position(), 24)
    assert not policy().is_due([{}] * 6, Position(stopped="rolled back"), 24)
    assert not policy().is_due([{}] * 6, Position(), 0)


def test_the_fraction_grows_with_the_rounds_and_ends_at_the_target():
    removed = [policy(sparsity=0.5).num_removed(20, Position(stage=stage)) for stage in range(4)]
    assert removed == [2, 5, 8, 10]  # 2.5 and 7.5 to the even number
    assert policy(sparsity=0.99, rounds=1).num_removed(4, Position()) == 3  # never all


@pytest.mark.parametrize(
    "options, epochs, message",
    [
        ({"rounds": 4}, (0, 4), "rounds=4: a training of 4 epochs is too short .* Write rounds=3 or at least 5 epochs"),
        ({"rounds": 4}, (6, 10), "a training of 4 epochs"),
        ({"rounds": 2, "every": 5}, (0, 10), "every=5: 2 resizes.*more than the 10 epochs.*Write more than 10 epochs"),
    ],
)
def test_a_training_that_is_too_short_is_refused(options, epochs, message):
    with pytest.raises(ValueError, match=message):
        policy(**options).check_epochs(*epochs)
    policy(**options).check_epochs(0, 11)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sparsity": 1.0}, "sparsity=1.0: expected a number of at least 0 and below 1"),
        ({"sparsity": -0.1}, "sparsity=-0.1"),
        ({"sparsity": "half"}, "sparsity='half'"),
        ({"rounds": 0}, "rounds=0: expected a whole number of at least 1"),
        ({"every": 2.0}, "every=2.0: expected a whole number of at least 1, such as 5"),
        ({"tolerance": -1}, "tolerance=-1"),
    ],
)
def test_a_value_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RoundOptions(**options)


def test_no_stage_is_undone_unless_a_tolerance_is_given():
    entries = [{"stage": 0, "val_accuracy": 0.9}, {"stage": 1, "val_accuracy": 0.1}]
    assert policy().reason_to_roll_back(entries, 1) is None
    reason = policy(tolerance=0.05).reason_to_roll_back(entries, 1)
    assert reason == "val_accuracy 0.1000 after 0.9000 is worse by more than 0.05"
