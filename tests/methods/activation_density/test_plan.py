"""What a plan reads out of the record of a training."""

import pytest

from tfsparse.methods.activation_density.plan import Plan

DEFAULT = {
    "rounds": 3,
    "weights": "inherit",
    "saturation": 0.01,
    "window": 2,
    "min_epochs": 2,
    "max_epochs": None,
    "prune_epochs": None,
    "smallest": 1,
    "multiple": 1,
    "tolerance": 0.02,
    "monitor": "val_accuracy",
    "seed": 0,
}


def plan(**options):
    return Plan(**DEFAULT | options)


def entries(*densities, **more):
    return [
        {"epoch": i, "density": d, "densities": {"a": d, "b": d}, "widths": {"a": 10, "b": 4}, "stage": 0} | more
        for i, d in enumerate(densities, start=1)
    ]


def at(**changes):
    return {"since": 0, "size": 0, "stopped": None} | changes


def test_it_looks_only_at_epochs_since_the_last_resize():
    record = entries(0.9, 0.5, 0.5, 0.8, 0.8)
    assert plan().due(record, at(since=3), left=9)
    assert not plan().due(record[:4], at(since=3), left=9)
    assert not plan(min_epochs=3).due(record, at(since=3), left=9)
    assert not plan().due(record[:3], at(since=3), left=9)


def test_all_rounds_come_in_time_even_if_nothing_comes_to_rest():
    restless = entries(*[0.5, 0.7] * 6)
    dues = [plan(rounds=2).due(restless[:n], at(), left=12 - n) for n in (2, 3, 4, 5)]
    assert dues == [False, False, True, True]  # 12 epochs are three stages of 4
    assert not plan(rounds=2, max_epochs=5).due(restless[:4], at(), left=8)


def test_after_the_last_round_or_a_stop_nothing_is_due():
    record = entries(0.5, 0.5)
    assert plan().due(record, at(size=2), left=9)
    assert not plan().due(record, at(size=3), left=9)
    assert not plan().due(record, at(stopped="enough"), left=9)
    assert not plan().due(record, at(), left=1)


def test_planned_epochs_come_instead():
    planned = plan(prune_epochs=[3, 4], rounds=1)
    assert [planned.due(entries(*[0.5] * n), at(), left=9) for n in range(1, 6)] == [False, False, True, True, False]
    assert planned.due(entries(*[0.5] * 4), at(size=1, since=3), left=1)  # rounds do not count, nor the epochs between
    assert not planned.due(entries(*[0.5] * 4), at(size=2, since=4), left=9)  # done


def test_widths_that_change():
    entry = entries(0.5)[0] | {"densities": {"a": 0.25, "b": 0.9}}
    assert plan().widths(entry) == {"a": 3}
    assert plan(smallest=8).widths(entry) == {"a": 8}


def test_a_dense_network_and_one_that_would_not_change_are_left_alone():
    assert plan().refusal(entries(0.5)[0]) is None
    assert "density 0.90" in plan().refusal(entries(0.9)[0])
    assert plan().refusal(entries(0.899)[0]) is None
    assert "no layer" in plan(smallest=10).refusal(entries(0.5)[0])


def test_a_stage_is_compared_with_the_one_before():
    accuracies = [(0, 0.9), (1, 0.95), (2, 0.91), (2, 0.92)]
    record = [{"stage": s, "val_accuracy": a, "val_loss": 1 - a} for s, a in accuracies]
    assert plan().fall(record, 0) is None
    assert plan().fall(record, 1) is None
    assert plan().fall(record, 2) == "val_accuracy 0.9200 after 0.9500 is worse by more than 0.02"
    assert plan(tolerance=0.04).fall(record, 2) is None
    assert plan(monitor="val_loss").fall(record, 2) == "val_loss 0.0800 after 0.0500 is worse by more than 0.02"
    assert plan(monitor="val_auc").fall(record, 2) is None
    assert plan().fall([{"stage": 0, "val_accuracy": float("nan")}, *record[2:]], 1) is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 0}, "rounds=0: expected a whole number of at least 1"),
        ({"window": 2.5}, "window=2.5: expected a whole number"),
        ({"smallest": True}, "smallest=True"),
        ({"max_epochs": 1}, "max_epochs=1: expected a whole number of at least 2"),
        ({"saturation": -0.1}, "saturation=-0.1: expected a number of at least 0"),
        ({"tolerance": "1"}, "tolerance='1'"),
        ({"prune_epochs": [5, 3]}, r"prune_epochs=\[5, 3\]: expected rising numbers"),
        ({"prune_epochs": []}, "prune_epochs="),
        ({"prune_epochs": 5}, "prune_epochs=5"),
        ({"seed": -1}, "seed=-1"),
        ({"weights": "keep"}, 'expected weights="inherit" or weights="reinit"'),
    ],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan(**options)


def test_planned_epochs_lie_inside_of_the_training():
    plan(prune_epochs=[4, 9]).check_epochs(3, 10)
    with pytest.raises(ValueError, match="after epoch 10 nothing can be resized in a training from epoch 3 to 10"):
        plan(prune_epochs=[4, 10]).check_epochs(3, 10)
    with pytest.raises(ValueError, match="after epoch 3"):
        plan(prune_epochs=[3, 9]).check_epochs(3, 10)
