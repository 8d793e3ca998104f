import math

from tfsparse.callbacks import search_state
from tfsparse.callbacks.search_state import SearchState
from tfsparse.schedules import Auto

SCHEDULE = Auto((0.5, 0.75, 0.875), drop=0.1, resolution=0.2)


def decide(values, schedule=SCHEDULE, num_left=9):
    """Return the level and whether it is final after each value."""
    state, decisions = SearchState(num_left=num_left), []
    for step, value in enumerate(values):
        state = search_state.after_epoch(state, schedule, value, step, num_left - step - 1)
        decisions.append((round(state.level, 4), state.is_final))
    return decisions


def test_levels_go_up_while_they_hold_and_back_to_the_last_that_held():
    found = decide([0.9, 0.9, 0.85, 0.7, 0.7], num_left=6)
    assert found == [(0.5, False), (0.75, False), (0.875, False), (0.75, True), (0.75, True)]


def test_all_levels_may_hold():
    assert decide([0.9, 0.9, 0.9, 0.9]) == [(0.5, False), (0.75, False), (0.875, False), (0.875, True)]


def test_a_level_must_follow_the_best_epoch_and_half_of_its_rise():
    assert decide([0.5, 0.75, 0.77], num_left=3)[-1] == (0.5, True)  # the limit is 0.75 + 0.25 / 2 - 0.1
    assert decide([0.5, 0.75, 0.78], num_left=3)[-1] == (0.75, True)


def test_the_rise_is_a_mean_in_which_an_epoch_weighs_half_as_much_as_the_next():
    state, seen = SearchState(), []
    for value in (0.4, 0.6, 0.5, 0.7):
        state = state.with_value(value)
        seen.append((round(state.rise, 6), round(state.reference, 6)))
    assert str(seen) == "[(nan, 0.4), (0.2, 0.4), (0.1, 0.7), (0.1, 0.65)]"


def test_after_the_search_the_reference_is_the_best_epoch():
    state = SearchState(final_step=3, best=0.6, rise=0.2).with_value(0.5)
    assert state.reference == 0.6 and state.holds(0.1) and not state.holds(0.05)


def test_the_middle_is_tried_between_a_level_that_held_and_one_that_missed():
    schedule = Auto((0.5, 0.9), drop=0.1, resolution=0.05)
    assert [level for level, _ in decide([0.9, 0.9, 0.7, 0.85, 0.7], schedule, 5)] == [0.5, 0.9, 0.7, 0.8, 0.7]


def test_a_level_has_its_share_of_epochs_before_it_misses():
    assert [level for level, _ in decide([0.9, 0.7, 0.7, 0.7, 0.7], num_left=21)] == [0.5, 0.5, 0.5, 0.5, 0.25]
    assert [level for level, _ in decide([0.9, 0.7, 0.85], num_left=21)] == [0.5, 0.5, 0.75]


def test_if_nothing_else_is_left_a_level_has_half_of_the_epochs():
    schedule = Auto((0.5,), drop=0.1, resolution=0.6)
    assert [final for _, final in decide([0.9, *[0.7] * 5], schedule, 9)] == [False] * 4 + [True] * 2


def test_the_dense_network_is_not_pruned_before_it_holds_itself():
    state = SearchState(best=0.9, num_left=9)
    for step in range(1, 8):
        state = search_state.after_epoch(state, SCHEDULE, 0.7, step, 9 - step)
        assert (state.level, state.held, state.is_final) == (0, -1, False)
    assert search_state.after_epoch(state, SCHEDULE, 0.7, 2, 0).is_final
    assert search_state.after_epoch(state, SCHEDULE, 0.85, 2, 7).level == 0.5


def test_the_search_begins_at_the_sparsity_of_a_pruned_network():
    state = SearchState(level=0.6, base=0.6, num_left=9)
    state = search_state.after_epoch(state, SCHEDULE, 0.9, 1, 8)
    assert state.level == 0.75
    state = search_state.after_epoch(state, SCHEDULE, 0.7, 2, 0)
    assert (state.level, state.final_step) == (0.6, 2)


def test_a_state_is_the_same_after_float32():
    state = SearchState(level=0.5, best=0.75, final_step=12.0, value=0.25, dense=-math.inf, rise=0.5)
    assert SearchState.load(state.dump()) == state
