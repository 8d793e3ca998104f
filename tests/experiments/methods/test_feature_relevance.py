"""Runs in which channels of low relevance go. What every run that shrinks has is tested with activation density."""

import inspect

import pytest
from small_config import small

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import experiment

SECTION = "feature_relevance={rounds: 1, smallest: 2}"


def config(*overrides):
    return small("prune=null", "epochs=2", "model.widths=[32, 16]", SECTION, *overrides)


def test_a_run_ends_with_half_of_the_channels(tmp_path):
    run = experiment.train(config(), tmp_path / "run")
    widths = run["epochs"][-1]["widths"]
    assert sum(widths.values()) == 24 and run["summary"]["resizes"] == [1]
    first, second = widths.values()
    assert run["summary"]["parameters"] == 65 * first + (first + 1) * second + (second + 1) * 10
    model = run_directory.read_model(tmp_path / "run" / "model.keras")
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [first, second, 10]
    names = {path.name for path in (tmp_path / "run" / "feature_relevance").iterdir()}
    assert names == {"run.json", "model.keras", "stage-0.keras", "examples.npz"}


def test_the_section_has_the_arguments_of_the_driver_and_their_defaults():
    arguments = {n: p.default for n, p in inspect.signature(tfsparse.FeatureRelevance).parameters.items()}
    section = small("prune=null", "feature_relevance={}").feature_relevance.model_dump()
    for_scripts = {"model", "monitor", "directory", "data", "seed"}
    assert section == {name: value for name, value in arguments.items() if name not in for_scripts}


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="43 of 48 channels cannot go"):
        experiment.train(config("feature_relevance.sparsity=0.9", "feature_relevance.smallest=8"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
