"""Runs and configs of version 0.1: `tests/saved_by_0_1/make.py` wrote the run."""

import pathlib
import shutil

import numpy as np
import pytest

from tfsparse.backend import run_directory
from tfsparse.experiments import config, experiment

RUN = pathlib.Path(__file__).parents[1] / "saved_by_0_1" / "run"


def test_an_interrupted_run_of_an_older_version_is_finished_at_its_sparsity(tmp_path):
    shutil.copytree(RUN, tmp_path / "run")
    before = run_directory.read(RUN)
    assert (before["status"], len(before["epochs"])) == ("running", 1)
    run = experiment.train(config.validate(before["config"]), tmp_path / "run", resume=True)
    assert run["status"] == "finished" and run["epochs"][:1] == before["epochs"] and len(run["epochs"]) == 2
    kernels = [w for w in run_directory.read_model(tmp_path / "run" / "model.keras").get_weights() if w.ndim == 2]
    assert [np.sum(kernel == 0) for kernel in kernels] == [round(0.75 * kernel.size) for kernel in kernels]
    assert run["summary"]["sparsity"] == 0.75


def test_the_boundaries_of_a_rate_that_falls_in_steps_were_called_at():
    values = run_directory.read(RUN)["config"]
    rates = [{"name": "steps", "first": 0.1, key: [0.5, 0.75]} for key in ("at", "boundaries")]
    old, new = (config.validate(values | {"optimizer": {"name": "sgd", "learning_rate": rate}}) for rate in rates)
    assert old == new and new.optimizer.learning_rate.boundaries == (0.5, 0.75)
    assert config.differences(old, new) == []


@pytest.mark.parametrize("method", ["dst", "pll", "activation_density"])
def test_a_saved_config_without_the_section_of_a_method_is_valid_without_that_method(method, monkeypatch):
    from tfsparse.experiments import methods

    values = run_directory.read(RUN)["config"]
    assert values[method] is None
    if method in methods.METHODS:
        monkeypatch.delitem(methods.METHODS, method)
    assert method not in config.RunConfig._without_removed_methods(values)
