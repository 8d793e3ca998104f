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
    assert started_at(Peak(), curvatures) == 6
    assert started_at(Peak(patience=1), curvatures) == 5
    assert started_at(Peak(drop=0.5), curvatures) is None
    assert started_at(Peak(decay=0.0), curvatures) == 5
    assert started_at(Peak(patience=3), curvatures) == 7


def test_only_checks_in_a_row_below_the_peak_count():
    assert started_at(Peak(decay=0.0), [10, 8, 9.5, 8, 9.5, 8]) is None
    assert started_at(Peak(decay=0.0), [10, 8, 9.5, 8, 8]) == 5
    assert started_at(Peak(decay=0.0), [10, 8, 20, 17.5, 17]) == 5


@pytest.mark.parametrize("curvatures", [range(1, 60), [5] * 59, [math.nan] * 59])
def test_without_a_peak_pruning_starts_at_latest(curvatures):
    assert started_at(Peak(), curvatures) == 20
    assert started_at(Peak(latest=0.35), curvatures) == 35


def test_the_first_value_can_be_the_peak():
    assert started_at(Peak(), [10, 5, 2.5, 1.2]) == 3


def test_pruning_does_not_start_before_earliest():
    assert started_at(Peak(earliest=0.1), [10, 5, 2.5] + [1] * 30) == 10
    assert [Peak(earliest=0.1).needs_curvature(t) for t in (0.09, 0.1)] == [False, True]


def test_a_curvature_that_is_not_finite_is_ignored():
    assert started_at(Peak(decay=0.0), [10, math.inf, 8, math.nan, 8]) == 5


def test_a_fixed_start_measures_nothing():
    assert started_at(FixedStart(0.1), [math.nan] * 50) == 10
    assert not FixedStart(0.1).needs_curvature(0.5)


class Probe:
    """A parabola: 100 living weights of 0.1, 0.2, ..."""

    def __init__(self, trace=1.0, loss=1.0, top=-1.0):
        self.values = {"trace": trace, "loss": loss, "top": top}
        self.arguments = []

    def trace(self, probes):
        self.arguments.append(probes)
        return self.values["trace"]

    def eigenvalue(self, iterations):
        self.arguments.append(iterations)
        return self.values["top"]

    def loss(self):
        return self.values["loss"]

    def num_within_budget(self, budget):
        return int(np.sum(np.cumsum(np.square(np.arange(1, 101) / 10)) <= budget))


def test_more_curvature_admits_fewer():
    numbers = [LossBudget().admitted(Probe(trace), 100)[0] for trace in (1e-3, 0.1, 1, 10, 1e2, 1e4)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == 100
    assert numbers[-1] == 0
    assert len(set(numbers)) > 4


def test_the_predicted_rise_of_the_loss_stays_within_the_tolerance():
    number, found = LossBudget(tolerance=0.1).admitted(Probe(trace=4.0, loss=3.0), 100)
    assert found == {"h": 0.04, "loss": 3.0}
    rise = 0.04 / 2 * np.cumsum(np.square(np.arange(1, 101) / 10))
    assert rise[number - 1] <= 0.1 * 3.0 < rise[number]
    probe = Probe(top=-4.0)
    assert LossBudget(curvature="max", products=2).admitted(probe, 100)[1]["h"] == 4.0
    assert probe.arguments == [2]


@pytest.mark.parametrize("broken", [{"trace": 0.0}, {"trace": -1.0}, {"trace": math.nan}, {"loss": math.inf}])
def test_an_unusable_measurement_admits_no_weight(broken):
    assert LossBudget().admitted(Probe(**broken), 100)[0] == 0


def test_share_measures_nothing():
    probe = Probe()
    assert Share(0.2).admitted(probe, 77) == (15, {})
    assert probe.arguments == []


def test_the_target_is_met_in_equal_shares():
    living, shares_pruned = 100_000, []
    for left in range(8, 0, -1):
        shares_pruned.append(num_to_prune(0, living, 10_000, left) / living)
        living -= round(shares_pruned[-1] * living)
    assert living == 10_000
    np.testing.assert_allclose(shares_pruned, 1 - 0.1 ** (1 / 8), atol=1e-4)


def test_an_event_prunes_at_most_a_fifth_and_never_beyond_the_target():
    assert num_to_prune(1000, 1000, 100, 8) == max(200, math.ceil(1000 * (1 - 0.1 ** (1 / 8)))) == 251
    assert num_to_prune(1000, 1000, 700, 8) == 200  # at most a fifth
    assert num_to_prune(1000, 1000, 900, 8) == 100  # never beyond the target
    assert num_to_prune(30, 1000, None, 1) == 30
    assert num_to_prune(0, 900, 900, 1) == 0
    assert num_to_prune(0, 1000, 100, -2) == 900  # past the last event


def test_progress_is_loaded_from_its_dump():
    progress = Progress(first_step=7, total_steps=100, last_check=12, mean_curvature=math.pi, start_step=3)
    again = Progress.load(progress.dump())
    assert again.dump().tolist()[:-1] == progress.dump().tolist()[:-1]
    assert (again.first_step, again.start_step, again.end_step) == (7, 3, -1)
    assert math.isnan(Progress.load(Progress().dump()).mean_curvature)


def test_rules_are_found_by_name():
    assert starts.get("peak") == Peak()
    assert Peak.from_config({"memory": 0.25}) == Peak(decay=0.25)  # as version 0.1 saved it
    assert rates.get({"name": "share", "share": 0.1}) == Share(0.1)
    assert [default_every(n) for n in (10, 100, 10**6)] == [1, 6, 31250]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Peak(drop=1.5), r"drop=1.5: expected a number in \[0, 1\)"),
        (lambda: Peak(earliest=0.5), r"earliest=0.5: expected a number in \[0, 0.2\)"),
        (lambda: Peak(patience=0), "patience=0: expected a number of checks >= 1"),
        (lambda: FixedStart(1), r"t=1: expected a number in \[0, 1\)"),
        (lambda: Share("0.2"), "share='0.2': expected a number"),
        (lambda: LossBudget(curvature="top"), "curvature='top': expected one of 'mean', 'max'"),
        (lambda: LossBudget(products=6), "products=6: expected a number from 1 to 5"),
        (lambda: starts.get("peek"), "peak"),
    ],
)
def test_an_option_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
