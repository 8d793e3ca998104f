import numpy as np
import pytest

from tfsparse import schedules
from tfsparse.methods.free_tickets.phases import Phases, phase_at


def by_step(total, exploration, num_tickets):
    return [np.array(part).tolist() for part in phase_at(np.arange(total), total, exploration, num_tickets)]


def test_golden_phases_of_eight_steps_with_one_left_over():
    index, begin, length = by_step(8, 1 / 4, 2)
    assert index == [0, 0, 1, 1, 1, 2, 2, 2]
    assert begin == [0, 0, 2, 2, 2, 5, 5, 5]
    assert length == [2, 2, 3, 3, 3, 3, 3, 3]
    index, begin, length = by_step(8, 0.4, 2)  # 3.2 steps are rounded to 3, and 5 steps are no two equal phases
    assert index == [0, 0, 0, 1, 1, 2, 2, 2]
    assert begin == [0, 0, 0, 3, 3, 5, 5, 5]
    assert length == [3, 3, 3, 2, 2, 3, 3, 3]


def test_phases_are_those_of_the_authors():
    """450 epochs: exploration until 150, tickets at 250, 350 and 450."""
    index, begin, length = by_step(450, 1 / 3, 3)
    assert [index.index(phase) for phase in range(4)] == [0, 150, 250, 350]
    assert sorted({*zip(begin, length, strict=True)}) == [(0, 150), (150, 100), (250, 100), (350, 100)]


def test_all_steps_after_training_belong_to_the_last_phase():
    assert int(phase_at(20, 10, 0.5, 2).index) == 2


def test_the_first_step_of_every_phase_updates_the_masks():
    def due(updates):
        schedule = Phases(1 / 3, 2, updates)
        return [step for step in range(1, 13) if bool(schedule.due(step, 12))]

    assert due(4) == [1, 4, 5, 8, 9, 12]
    assert due(1) == [1, 5, 9, 12]
    assert due(None) == [*range(1, 13)]


def test_the_target_is_there_from_the_first_step():
    assert [Phases()(t) for t in (0.0, 0.5, 1.0)] == [1, 1, 1]
    assert schedules.get("phases", num_tickets=2) == Phases(num_tickets=2)


@pytest.mark.parametrize("options", [{"exploration": 0}, {"exploration": 1}, {"num_tickets": 0}, {"num_tickets": 2.5}])
def test_phases_that_are_none_are_an_error(options):
    with pytest.raises(ValueError, match=r"Phases got exploration=.*, num_tickets=.*for example exploration=0.4"):
        Phases(**options)
