"""A diverged training is refused, whatever its method, and leaves the model of before."""

import json

import keras
import numpy as np
import pytest
from small_config import small

from tfsparse import methods
from tfsparse.backend import run_directory
from tfsparse.experiments import experiment
from tfsparse.experiments.divergence import StopAtDivergence

SECTIONS = {"dense": "prune=null", "dst": "dst={}", "activation_density": "activation_density={prune_epochs: [1]}"}
PRESENT = {"dense"} | methods.modules_in("tfsparse.methods").keys()


@pytest.mark.parametrize("method", sorted(SECTIONS.keys() & PRESENT))
def test_a_diverged_run_is_not_finished(tmp_path, method):
    steep = small("prune=null", SECTIONS[method], "optimizer={name: sgd, learning_rate: 1e30}")
    with pytest.raises(ValueError, match=r"Training has diverged: .* after epoch 1. Lower the learning rate"):
        experiment.train(steep, tmp_path / "run")
    for file in (tmp_path / "run").rglob("run.json"):
        run = json.loads(file.read_text(), parse_constant=pytest.fail)
        assert (run["status"], run["epochs"]) == ("running", [])
    model = run_directory.read_model(tmp_path / "run" / "model.keras")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert not (tmp_path / "run" / "savedmodel").exists()


@pytest.mark.parametrize("logs", [{"loss": np.nan}, {"loss": 1.0, "val_loss": np.inf}])
def test_a_loss_that_is_no_number_is_named(logs):
    callback = StopAtDivergence()
    callback.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    with pytest.raises(ValueError, match=f"{[*logs][-1]} is NaN or infinite after epoch 3"):
        callback.on_epoch_end(2, logs)


def test_a_weight_that_is_no_number_is_named():
    callback, model = StopAtDivergence(), keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    callback.set_model(model)
    model.layers[0].moving_variance.assign([1.0, np.inf])
    with pytest.raises(ValueError, match="moving_variance is NaN or infinite"):
        callback.on_epoch_end(0, {"loss": 1.0})


def test_what_was_not_measured_is_left_out_of_the_record(tmp_path):
    add = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(curvature=np.nan))
    run = {"checkpoints": [], "epochs": [], "seconds": []}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    recorder = experiment._RunRecorder(tmp_path, run)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[add, recorder])
    (entry,) = json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail)["epochs"]
    assert "loss" in entry and "curvature" not in entry
