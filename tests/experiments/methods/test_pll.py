"""Runs in which curvature decides: it is measured on the same batch also after a resume."""

import keras
import numpy as np
import pytest
from small_config import bits, small
from thoroughly import also

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import assembly, experiment
from tfsparse.methods.pll import rules


def config(*overrides):
    return small("prune=null", "epochs=4", "pll={sparsity: 0.75, every: 3}", *overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pll") / "straight"
    return directory, experiment.train(config(), directory)


def test_the_target_is_met_and_curvature_is_in_the_record(finished):
    directory, run = finished
    kernels = [k for k in run_directory.read_model(directory / "model.keras").get_weights() if k.ndim == 2]
    assert sum(int(np.sum(k == 0)) for k in kernels) == round(0.75 * sum(k.size for k in kernels))
    assert (run["summary"]["asked_sparsity"], run["summary"]["sparsity"]) == (0.75, pytest.approx(0.75, abs=1e-3))
    assert run["summary"]["method"] == "pll (every=3)"
    assert run["epochs"][0]["curvature"] != run["epochs"][1]["curvature"]


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("epoch", [1, *also([0, 2])])
def test_killed_and_resumed_is_the_straight_run(finished, tmp_path, epoch):
    def kill(now, logs=None):
        if now == epoch:
            raise Killed

    with pytest.raises(Killed):
        experiment.train(config(), tmp_path / "run", callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=kill)])
    experiment.train(config(), tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(finished[0])


@pytest.mark.parametrize("start, rule", [("peak", rules.Peak), ("0.25", rules.FixedStart)])
def test_the_section_is_the_callback(start, rule):
    asked = small("prune=null", f"pll.start={start}", "pll.end=0.75")
    (callback,) = assembly.callbacks(asked, first_batch=lambda: ([[0.0]], [0]))
    assert isinstance(callback, tfsparse.PLL) and isinstance(callback.start, rule)
    assert (callback.sparsity, callback.end) == (None, 0.75)


@pytest.mark.parametrize(
    "overrides, label",
    [
        (["pll={sparsity: 0.9, skip_last: true}"], "pll, skip_last"),
        (["pll={start: 0.1}"], "pll (start=0.1)"),
    ],
)
def test_the_label_names_options_that_are_not_the_default(overrides, label):
    assert assembly.label(small("prune=null", *overrides)) == label
