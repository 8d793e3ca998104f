"""Runs in which filters of small norm go. What every run that shrinks has is tested with activation density."""

import inspect

import pytest
from small_config import bits, small

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import assembly, experiment
from tfsparse.experiments.config import ConfigError


def config(*overrides):
    return small("prune=null", "epochs=3", "model.widths=[32, 16]", "filter_pruning={rounds: 2}", *overrides)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def test_a_run_is_resumed_and_says_what_is_left(tmp_path):
    straight = experiment.train(config(), tmp_path / "straight")
    summary = straight["summary"]
    assert list(straight["epochs"][-1]["widths"].values()) == [16, 8]
    assert summary["parameters"] == 64 * 16 + 16 + 17 * 8 + 90 < summary["dense_parameters"]
    assert summary["resizes"] == [1, 2] and summary["asked_sparsity"] is None
    macs = [epoch["macs"] for epoch in straight["epochs"]]
    assert summary["training_complexity"] == pytest.approx(sum(macs) / (3 * macs[0]))

    def kill(source, target, replace=run_directory.files.os.replace):
        if "filter_pruning" in str(target) and "stage-1" in str(target):
            raise Killed
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_directory.files.os, "replace", kill)
        experiment.train(config(), tmp_path / "run")
    experiment.train(config(), tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(tmp_path / "straight")


def test_the_section_has_the_arguments_of_the_driver_and_their_defaults():
    arguments = {n: p.default for n, p in inspect.signature(tfsparse.FilterPruning).parameters.items()}
    section = config().filter_pruning.model_dump()
    for_scripts = {"model", "monitor", "directory", "seed"}
    assert section == {name: value for name, value in arguments.items() if name not in for_scripts} | {"rounds": 2}


def test_the_label_names_options_that_are_not_the_default():
    assert assembly.label(config("filter_pruning.sparsity=0.7")) == "filter pruning (sparsity=0.7, rounds=2)"
    assert assembly.label(config("filter_pruning={}")) == "filter pruning"


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="rounds=9: a training of 3 epochs is too short"):
        experiment.train(config("filter_pruning.rounds=9"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="filter_pruning.sparsity=1.0: expected a number of at least 0 and below 1"):
        config("filter_pruning.sparsity=1.0")
    with pytest.raises(ConfigError, match="did you mean filter_pruning.smallest"):
        config("filter_pruning.smalest=3")
