import math

import numpy as np
import pytest

from tfsparse.methods.pll.rules import (
    FixedStart,
    LossBudget,
    Peak,
    Progress,
    Share,
    default_every,
    num_to_prune,
    rates,
    starts,
)


def started_at(rule, curvatures, total=100):
    """The first check, of one per step of `total`, at which the rule starts."""
    progress = Progress()
    for step, curvature in enumerate(curvatures, start=1):
        if rule.is_reached(progress, step / total, curvature):
            return step
    return None


def test_the_peak_is_that_of_the_moving_average():
    curvatures = [1, 4, 10, 6, 4, 2, 1]  # averages 1, 2.5, 6.25, 6.125, 5.06, 3.53, 2.27: below 5.625 from the 5th on
    assert started_at(Peak(), curvatures) == 5
    assert started_at(Peak(patience=2), curvatures) == 6
    assert started_at(Peak(drop=0.5), curvatures) == 7  # below 3.125
    assert started_at(Peak(decay=0.0), curvatures) == 4
    assert started_at(Peak(patience=3), curvatures) == 7


def test_only_checks_in_a_row_below_the_peak_count():
    twice = Peak(decay=0.0, patience=2)
    assert started_at(twice, [10, 8, 9.5, 8, 9.5, 8]) is None
    assert started_at(twice, [10, 8, 9.5, 8, 8]) == 5
    assert started_at(twice, [10, 8, 20, 17.5, 17]) == 5


@pytest.mark.parametrize("curvatures", [range(1, 60), [5] * 59, [math.nan] * 59])
def test_without_a_peak_pruning_starts_at_latest(curvatures):
    assert started_at(Peak(), curvatures) == 20
    assert started_at(Peak(latest=0.35), curvatures) == 35


def test_the_first_value_can_be_the_peak():
    assert started_at(Peak(), [10, 5, 2.5, 1.2]) == 2


def test_pruning_does_not_start_before_earliest():
    assert started_at(Peak(earliest=0.1), [10, 5, 2.5] + [1] * 30) == 10
    assert [Peak(earliest=0.1).needs_curvature(t) for t in (0.09, 0.1)] == [False, True]


def test_a_curvature_that_is_not_finite_is_ignored():
    assert started_at(Peak(decay=0.0, patience=2), [10, math.inf, 8, math.nan, 8]) == 5
    assert started_at(Peak(decay=0.0), [10, math.inf, 9.5, math.nan, 8]) == 5


def test_a_fixed_start_measures_nothing():
    assert started_at(FixedStart(0.1), [math.nan] * 50) == 10
    assert not FixedStart(0.1).needs_curvature(0.5)


class Probe:
    """A parabola: 100 living weights of 0.1, 0.2, ..."""

    def __init__(self, trace=1.0, loss=1.0, top=-1.0):
        self.values = {"trace": trace, "loss": loss, "top": top}
        self.weights, self.arguments = np.arange(1, 101) / 10, []

    def trace(self, probes):
        self.arguments.append(probes)
        return self.values["trace"]

    def eigenvalue(self, iterations):
        self.arguments.append(iterations)
        return self.values["top"]

    def loss(self):
        return self.values["loss"]

    def num_within_budget(self, budget, most):
        sums = np.cumsum(np.square(self.weights))
        number = min(int(np.sum(sums <= budget)), most)
        return number, float(sums[number - 1]) if number else 0.0


def admitted(rule, probe, spent=0.0, final_living=None):
    """What a rule admits of the 100 weights, what it measured, and what it has spent after it."""
    progress = Progress(spent=spent)
    number, found = rule.admitted(progress, probe, len(probe.weights), final_living)
    return number, found, progress.spent


def test_more_curvature_admits_fewer():
    rule = LossBudget(max_share=0.99)
    numbers = [admitted(rule, Probe(trace))[0] for trace in (1e-3, 0.1, 1, 10, 1e2, 1e4)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == 99
    assert numbers[-1] == 0
    assert len(set(numbers)) > 4
    assert admitted(LossBudget(), Probe(1e-3))[0] == 20  # a fifth at most


def test_the_predicted_rise_of_the_loss_stays_within_the_tolerance():
    number, found, spent = admitted(LossBudget(tolerance=0.1, max_share=0.9), Probe(trace=4.0, loss=3.0))
    rise = 0.04 / 2 * np.cumsum(np.square(np.arange(1, 101) / 10)) / 3.0
    assert rise[number - 1] <= 0.1 < rise[number]
    assert (found["h"], found["loss"]) == (0.04, 3.0)
    assert found["rise"] == spent == pytest.approx(rise[number - 1])
    probe = Probe(top=-4.0)
    assert admitted(LossBudget(curvature="max", products=2), probe)[1]["h"] == 4.0
    assert probe.arguments == [2]


def test_the_rises_of_all_events_stay_within_the_total():
    """Against a loop over single weights in NumPy."""
    rule, probe, progress = LossBudget(tolerance=0.3, total=1.0, max_share=0.2), Probe(trace=4.0, loss=2.0), Progress()
    spent, numbers, expected = 0.0, [], []
    for _ in range(12):
        h = 4.0 / len(probe.weights)
        numbers.append(rule.admitted(progress, probe, len(probe.weights), None)[0])
        expected.append(0)
        rise = 0.0
        for weight in probe.weights[: int(0.2 * len(probe.weights))]:
            if rise + h / 2 * weight**2 / 2.0 > min(0.3, 1.0 - spent):
                break
            rise, expected[-1] = rise + h / 2 * weight**2 / 2.0, expected[-1] + 1
        spent += rise
        probe.weights = probe.weights[numbers[-1] :]
    assert numbers == expected
    assert progress.spent == pytest.approx(spent) and 0.9 < spent <= 1.0
    assert numbers[0] == 20 and numbers[-1] == 0 and 0 < sum(numbers) < 100
    assert admitted(LossBudget(total=math.inf), Probe(), spent=1e9)[0] > 0
    assert admitted(LossBudget(), Probe(), spent=1.0)[0] == 0
    assert admitted(LossBudget(), Probe(1e-3), spent=1.0, final_living=40)[0] == 12  # the target is the limit then


@pytest.mark.parametrize(
    "broken", [{"trace": 0.0}, {"trace": -1.0}, {"trace": math.nan}, {"loss": math.inf}, {"loss": 0.0}]
)
def test_an_unusable_measurement_admits_no_weight(broken):
    assert admitted(LossBudget(), Probe(**broken), spent=0.5)[::2] == (0, 0.5)


def test_share_measures_nothing():
    probe = Probe()
    assert Share(0.2).admitted(Progress(), probe, 77, 7) == (15, {})
    assert probe.arguments == []


def test_the_target_is_met_in_equal_shares():
    living, shares_pruned = 100_000, []
    for left in range(8, 0, -1):
        shares_pruned.append(num_to_prune(0, living, 10_000, left) / living)
        living -= round(shares_pruned[-1] * living)
    assert living == 10_000
    np.testing.assert_allclose(shares_pruned, 1 - 0.1 ** (1 / 8), atol=1e-4)


def test_an_event_never_prunes_beyond_the_target():
    assert num_to_prune(200, 1000, 100, 8) == math.ceil(1000 * (1 - 0.1 ** (1 / 8))) == 251
    assert num_to_prune(300, 1000, 100, 8) == 300
    assert num_to_prune(1000, 1000, 900, 8) == 100
    assert num_to_prune(579, 1000, 400, 8) == 579
    assert num_to_prune(580, 1000, 400, 8) == 600  # 420 would be within a twentieth of 400
    assert num_to_prune(30, 1000, None, 1) == 30
    assert num_to_prune(0, 900, 900, 1) == 0
    assert num_to_prune(0, 1000, 100, -2) == 900  # past the last event


def test_progress_is_loaded_from_its_dump():
    progress = Progress(first_step=7, total_steps=100, last_check=12, mean_curvature=math.pi, start_step=3)
    again = Progress.load(progress.dump())
    np.testing.assert_array_equal(again.dump(), progress.dump())
    assert (again.first_step, again.start_step, again.end_step) == (7, 3, -1)
    assert math.isnan(Progress.load(Progress().dump()).mean_curvature)
    assert Progress.load(progress.dump()[:10]).spent == 0  # as version 0.1 saved it


def test_rules_are_found_by_name():
    assert starts.get("peak") == Peak()
    assert Peak.from_config({"memory": 0.25}) == Peak(decay=0.25)  # as version 0.1 saved it
    assert rates.get({"name": "share", "share": 0.1}) == Share(0.1)
    assert [default_every(n) for n in (10, 100, 10**6)] == [1, 6, 15625]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Peak(drop=1.5), r"drop=1.5: expected a number in \[0, 1\)"),
        (lambda: Peak(earliest=0.5), r"earliest=0.5: expected a number in \[0, 0.2\)"),
        (lambda: Peak(patience=0), "patience=0: expected a number of checks >= 1"),
        (lambda: FixedStart(1), r"t=1: expected a number in \[0, 1\)"),
        (lambda: Share("0.2"), "share='0.2': expected a number"),
        (lambda: LossBudget(curvature="top"), "curvature='top': expected one of 'mean', 'max'"),
        (lambda: LossBudget(total=-1.0), r"total=-1.0: expected a number in \[0, inf\)"),
        (lambda: LossBudget(max_share=1.0), r"max_share=1.0: expected a number in \[0, 1\)"),
        (lambda: LossBudget(products=6), "products=6: expected a number from 1 to 5"),
        (lambda: starts.get("peek"), "peak"),
    ],
)
def test_an_option_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
