"""What `tfsparse migrate --check` compares. The scripts run in this process, except in the tests that say otherwise."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from thoroughly import also
from typer.testing import CliRunner

from tfsparse.backend import child_process
from tfsparse.experiments.migration import translate_file
from tfsparse.tfmot import script_models
from tfsparse_command.app import app

SCRIPTS = pathlib.Path(__file__).parents[1] / "experiments" / "migrate"
SITUATIONS = ["constant", "own_layer", "own_loop", "only_dense"]
SITUATIONS += also(["whole_model", "summaries", "load", "blocks", "two_of_four", "quantised", "strip_and_tflite"])
SMALL = """
import tensorflow as tf
from tensorflow_model_optimization.sparsity import keras as sparsity
model = tf.keras.Sequential([tf.keras.layers.Dense(10, input_shape=(20,)), tf.keras.layers.ReLU()])
model = sparsity.prune_low_magnitude(model, sparsity.PolynomialDecay(0.0, 0.5, 2, 12))
model.compile("sgd", "mse")
model.fit(tf.ones((64, 20)), tf.ones((64, 10)), epochs=100, callbacks=[sparsity.UpdatePruningStep()])
"""


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(child_process, "call", lambda function, *arguments, seconds: function(*arguments))
    monkeypatch.setattr(tf, "keras", tf_keras)  # another test may have imported Keras 3 under this name


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
@pytest.mark.filterwarnings("ignore:.*prunes whole units")
def test_layers_zeros_and_schedules_are_equal_before_and_after(name, in_this_process):
    path = SCRIPTS / f"{name}.py"
    translation = translate_file(path)
    before, after = (script_models.models_of(code, path) for code in (translation.source, translation.translated))
    assert script_models.differences(before, after) == []
    zeros = [n / np.prod(shape) for facts in before.values() for shape, n in facts.zeros if facts.schedules]
    assert max(zeros) >= 0.5, "something was pruned"


def test_what_is_known_of_a_model(in_this_process):
    facts = script_models.models_of(SMALL, "train.py")
    assert facts.keys() == {"model", "fit 1"} and facts["model"] == facts["fit 1"]
    assert facts["model"].layers == ["Dense [(20, 10), (10,)]", "ReLU []"]
    assert facts["model"].zeros == [((20, 10), 100)]
    np.testing.assert_allclose(facts["model"].schedules[0], 0.5 - 0.5 * (1 - np.linspace(0, 1, 11)) ** 3, atol=1e-6)


@pytest.mark.parametrize(
    "old, new, difference",
    [
        ("Dense(10", "Dense(11", "model: the layers are"),
        ("0.5, 2, 12)", "0.55, 2, 12)", "model: the zeros are [100] before and [110] after"),
        ("0.5, 2, 12)", "0.5, 2, 12, power=1)", "model: the sparsities from begin to end are"),
        ("model.fit", "pruned = model; model.fit", "the models are model, fit 1 before and model, pruned, fit 1 after"),
    ],
)
def test_each_difference_is_found(old, new, difference, in_this_process):
    other = SMALL.replace(old, new).replace("(64, 10)", "(64, 11)" if "11" in new else "(64, 10)")
    found = script_models.differences(*(script_models.models_of(code, "train.py") for code in (SMALL, other)))
    assert any(text.startswith(difference) for text in found), found


def test_one_zero_more_or_less_is_no_difference():
    facts = script_models.ModelFacts([], [((3, 3), 4)], [])
    assert script_models.differences({"m": facts}, {"m": facts._replace(zeros=[((3, 3), 5)])}) == []
    assert script_models.differences({"m": facts}, {"m": facts._replace(zeros=[((3, 3), 6)])})


def test_an_error_of_the_script_names_its_line(in_this_process):
    with pytest.raises(script_models.ScriptError, match=r"line 2: FileNotFoundError: .*data.csv"):
        script_models.models_of("import math\nopen('data.csv')\n", "train.py")


@pytest.mark.exhaustive
def test_the_command_checks_in_processes_of_their_own():
    done = CliRunner().invoke(app, ["migrate", str(SCRIPTS / "whole_model.py"), "--check"])
    assert done.exit_code == 0, done.stderr
    assert "Equal before and after: " in done.stderr and "-import tensorflow_model_optimization" in done.stdout
