"""GSM is asked for as an optimizer with a compression above 1."""

import pytest
from small_config import small

import tfsparse
from tfsparse.experiments import assembly, experiment
from tfsparse.experiments.sections import ConfigError


def test_gsm_is_an_optimizer_and_brings_its_cut():
    asked = small("prune=null", "optimizer={name: gsm, compression: 4}")
    assert assembly.optimizer(asked.optimizer, total_steps=40).compression == 4
    (callback,) = assembly.callbacks(asked, "data")
    assert isinstance(callback, tfsparse.PruneGSM) and callback.data == "data"
    assert assembly.target_sparsity(asked) == 0.75
    assert assembly.callbacks(small("prune=null", "optimizer={name: gsm, compression: 1}")) == []


@pytest.mark.parametrize("compression, label", [(60, "gsm"), (1, "dense")])
def test_without_a_compression_above_1_it_is_an_optimizer_like_others(compression, label):
    asked = small("prune=null", f"optimizer={{name: gsm, compression: {compression}}}")
    assert assembly.label(asked) == label


@pytest.mark.parametrize("compression", ["many", "null", "[4]"])
def test_a_compression_that_is_no_number_is_named(compression):
    with pytest.raises(ConfigError, match=r"optimizer.compression=.*: expected entries over entries kept, such as 10"):
        assembly.callbacks(small("prune=null", f"optimizer={{name: gsm, compression: {compression}}}"))


def test_gsm_starts_from_trained_weights_and_says_what_its_cut_costs(tmp_path):
    gsm = ["prune=null", "optimizer={name: gsm, learning_rate: 0.05, momentum: 0.9, compression: 4}"]
    base = experiment.train(small("prune=null"), tmp_path / "base")
    with pytest.warns(UserWarning, match="will not be lossless"):
        run = experiment.train(
            small(*gsm, f"start.weights={tmp_path / 'base' / 'model.keras'}", "epochs=1"), tmp_path / "gsm"
        )
    assert run["summary"]["sparsity"] == pytest.approx(0.75, abs=1e-3)
    assert run["summary"]["asked_sparsity"] == 0.75 and run["summary"]["method"] == "gsm"
    assert run["summary"]["accuracy_before_cut"] >= base["summary"]["accuracy"] - 0.1
    assert run["epochs"][-1]["cut_accuracy"] == pytest.approx(run["summary"]["accuracy"])
