"""The policy decides by the record of a training alone."""

import pytest

from tfsparse.methods.activation_density.options import Options
from tfsparse.methods.activation_density.policy import DensityPolicy
from tfsparse.structured.stages.record import Position


def policy(**options):
    return DensityPolicy(Options(**{"window": 2, "min_epochs": 2, "smallest": 1, "rounds": 3, "min_kept": 0} | options))


def entries(*densities, **more):
    return [
        {"epoch": i, "density": d, "densities": {"a": d, "b": d}, "widths": {"a": 10, "b": 4}, "stage": 0} | more
        for i, d in enumerate(densities, start=1)
    ]


def test_only_epochs_since_the_last_resize_count():
    record = entries(0.9, 0.5, 0.5, 0.8, 0.8)
    assert policy().is_due(record, Position(stage_begin=3), epochs_left=9)
    assert not policy().is_due(record[:4], Position(stage_begin=3), epochs_left=9)
    assert not policy(min_epochs=3).is_due(record, Position(stage_begin=3), epochs_left=9)
    assert not policy().is_due(record[:3], Position(stage_begin=3), epochs_left=9)


def test_all_rounds_take_place_also_if_no_density_is_saturated():
    unsaturated = entries(*[0.5, 0.7] * 6)
    dues = [policy().is_due(unsaturated[:n], Position(), epochs_left=40 - n) for n in (2, 3, 4, 5)]
    assert dues == [False, False, True, True]  # a tenth of 40 epochs
    assert not policy(max_epochs=5).is_due(unsaturated[:4], Position(), epochs_left=36)
    assert policy(min_epochs=3).is_due(unsaturated[:3], Position(), epochs_left=9)  # a tenth of 12 would be less


def test_after_the_last_round_or_a_stop_nothing_is_due():
    record = entries(0.5, 0.5)
    assert policy().is_due(record, Position(stage=2), epochs_left=9)
    assert not policy().is_due(record, Position(stage=3), epochs_left=9)
    assert not policy().is_due(record, Position(stopped="enough"), epochs_left=9)
    assert not policy().is_due(record, Position(), epochs_left=1)


def test_planned_epochs_replace_the_rule():
    planned = policy(prune_epochs=[3, 4], rounds=1)
    dues = [planned.is_due(entries(*[0.5] * n), Position(), epochs_left=9) for n in range(1, 6)]
    assert dues == [False, False, True, True, False]
    # neither rounds nor the epochs between two resizes count
    assert planned.is_due(entries(*[0.5] * 4), Position(stage=1, stage_begin=3), epochs_left=1)
    assert not planned.is_due(entries(*[0.5] * 4), Position(stage=2, stage_begin=4), epochs_left=9)  # done


def test_new_widths_are_those_that_change():
    entry = entries(0.5)[0] | {"densities": {"a": 0.25, "b": 0.9}}
    assert policy().new_widths(entry) == {"a": 3}
    assert policy(smallest=8).new_widths(entry) == {"a": 8}
    assert policy(min_kept=0.6).new_widths(entry) == {"a": 6}


def test_a_dense_network_or_one_without_a_change_is_not_resized():
    assert policy().reason_to_stop(entries(0.5)[0]) is None
    assert "density 0.90" in policy().reason_to_stop(entries(0.9)[0])
    assert policy().reason_to_stop(entries(0.899)[0]) is None
    assert "no layer" in policy(smallest=10).reason_to_stop(entries(0.5)[0])


def test_a_stage_is_compared_with_the_one_before():
    accuracies = [(0, 0.9), (1, 0.95), (2, 0.91), (2, 0.92)]
    record = [{"stage": s, "val_accuracy": a, "val_loss": 1 - a} for s, a in accuracies]
    assert policy().reason_to_roll_back(record, 0) is None
    assert policy().reason_to_roll_back(record, 1) is None
    assert policy().reason_to_roll_back(record, 2) == "val_accuracy 0.9200 after 0.9500 is worse by more than 0.02"
    assert policy(tolerance=0.04).reason_to_roll_back(record, 2) is None
    reason = policy(monitor="val_loss").reason_to_roll_back(record, 2)
    assert reason == "val_loss 0.0800 after 0.0500 is worse by more than 0.02"
    assert policy(monitor="val_auc").reason_to_roll_back(record, 2) is None
    assert policy().reason_to_roll_back([{"stage": 0, "val_accuracy": float("nan")}, *record[2:]], 1) is None


def test_planned_epochs_outside_of_the_training_are_refused():
    policy(prune_epochs=[4, 9]).check_epochs(3, 10)
    with pytest.raises(ValueError, match="after epoch 10 nothing can be resized in a training from epoch 3 to 10"):
        policy(prune_epochs=[4, 10]).check_epochs(3, 10)
    with pytest.raises(ValueError, match="after epoch 3"):
        policy(prune_epochs=[3, 9]).check_epochs(3, 10)
