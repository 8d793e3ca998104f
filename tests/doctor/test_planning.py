"""What is planned pays on its target, trains as it stands, and promises what the trained model keeps."""

import keras
import numpy as np
import pytest
import yaml
from doctor.golden_models import network
from typer.testing import CliRunner

import tfsparse
from tfsparse.experiments import config
from tfsparse_command.app import app

layers = keras.layers
SMALL = """
epochs: 1
data: {name: digits, batch_size: 128}
model: {name: mlp, widths: [64, 32]}
optimizer: {name: adam, learning_rate: 0.01}
prune: {schedule: polynomial, pruner: {name: random, scope: global, seed: 3}, sparsity: 0.5, skip_last: true}
"""


def convolutional(units=64):
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(64, 3, name="conv"), layers.Conv2D(32, 3, name="second"), layers.Flatten()]
    head = [layers.Dense(units, name="hidden"), layers.Dense(10, name="logits")]
    return keras.Sequential([keras.Input((8, 8, 3)), *stack, *head], name="net")


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_each_kind_of_kernel_has_its_granularity():
    plan = tfsparse.plan(convolutional(), "tflite-cpu", 0.9)
    assert [row.granularity for row in plan.rows] == ["weight", "weight", "(1, 4)", "(1, 4)"]
    assert [(row.smaller, row.faster) for row in plan.rows] == [("yes", "no")] * 2 + [("yes", "hardly")] * 2
    pruner = {"name": "magnitude", "scope": "layer", "granularity": {"dense": (1, 4), "conv": "weight"}}
    assert plan.config == {"prune": {"pruner": pruner, "sparsity": 0.9}} and plan.notes == ()
    assert yaml.safe_load(plan.yaml())["prune"]["pruner"]["granularity"] == {"dense": [1, 4], "conv": "weight"}


def test_a_model_with_one_kind_of_kernel_has_one_granularity():
    assert tfsparse.plan(network(), "tflite-cpu", 0.9).config["prune"]["pruner"]["granularity"] == (1, 4)
    low = tfsparse.plan(network(), "tflite-cpu", 0.5)  # where the kernel for blocks would not run
    assert low.config["prune"]["pruner"]["granularity"] == "weight"
    assert low.rows[0].why == "the sparse kernel is taken from 75% zeros on"
    assert tfsparse.plan(network(), "savedmodel", 0.9).config["prune"]["pruner"]["granularity"] == "weight"


def test_the_first_and_last_weight_are_left_dense_if_they_gain_nothing():
    shapes = tfsparse.plan(convolutional(), "any", 0.5)
    assert [row.granularity for row in shapes.rows] == ["channel"] * 3 + ["dense"]
    assert shapes.config["prune"]["skip_last"] and "skip_first" not in shapes.config["prune"]
    packed = tfsparse.plan(convolutional(), "savedmodel", 0.9)  # too small to be packed: the last, and the first
    assert [row.granularity for row in packed.rows] == ["weight", "weight", "weight", "dense"]
    stack = [layers.Dense(128, name="wide"), layers.Dense(6, name="narrow"), layers.Dense(512, name="last")]
    inside = tfsparse.plan(keras.Sequential([keras.Input((64,)), *stack]), "savedmodel", 0.9)
    assert [row.granularity for row in inside.rows] == ["weight", "dense", "weight"]
    (note,) = inside.notes
    assert "cannot leave" in note and "narrow/kernel dense" in note and "exclude=" in note


def test_each_weight_has_the_prior_of_its_magnitudes_before_it_is_pruned():
    model = convolutional()
    kernel = model.get_layer("hidden").kernel
    values = np.zeros(kernel.shape, "float32")
    values[:, :16] = 0.5
    kernel.assign(values)
    plan = tfsparse.plan(model, "tflite-cpu", 0.9)
    assert [row.prior for row in plan.rows] == pytest.approx([0.25, 0.25, 0.75, 0.25], abs=0.03)  # Glorot's are uniform
    text = " ".join(str(plan).split())
    assert "prior: zeros that the magnitudes alone suggest; of a model before training it is that of" in text


def test_an_empty_channel_with_a_bias_is_not_removable():
    """After training a bias is not zero, and what pads with zeros sees where it ends."""
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    stack += [layers.Conv2D(8, 3, padding="same"), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack])
    plan = tfsparse.plan(model, "any", 0.5)
    assert plan.rows[0].granularity == "dense" and "not without effect" in plan.rows[0].why
    assert plan.rows[1].granularity == "channel"


def test_the_model_is_not_changed():
    model = convolutional()
    before = model.get_weights()
    tfsparse.plan(model, "tflite-cpu", 0.9)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_planned_config_trains_to_the_predicted_diagnosis(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    written = tmp_path / "new" / "plan.yaml"
    planned = invoke("plan", tmp_path / "small.yaml", "--sparsity", "0.8", "--out", written)
    assert planned.exit_code == 0, planned.output
    assert "scope: layer instead of global" in planned.stdout and f"Config: {written}" in planned.stdout
    new = config.load(written)
    assert (new.prune.sparsity, new.prune.schedule.name, new.prune.skip_last) == (0.8, "polynomial", True)
    assert new.prune.pruner.options == {"seed": 3, "scope": "layer", "granularity": (1, 4)}
    assert [line.split(":")[0] for line in config.differences(config.load(tmp_path / "small.yaml"), new)] == [
        "prune.sparsity",
        "prune.pruner.scope",
        "prune.pruner.granularity",
    ]
    trained = invoke("train", written, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    rows = tfsparse.doctor(tmp_path / "run", measure=False).rows
    promised = tfsparse.plan(tmp_path / "small.yaml", "tflite-cpu", 0.8).rows
    for row, choice in list(zip(rows, promised, strict=True))[:2]:
        assert (row.pattern, row.smaller, row.faster) == (choice.granularity, choice.smaller, choice.faster)
    assert rows[2].pattern == "dense"  # the config had skip_last, and keeps it


def test_a_config_with_two_granularities_trains(tmp_path):
    text = SMALL.replace("{name: mlp, widths: [64, 32]}", "{name: vgg_small}").replace("prune:", "pll: {}\n#")
    (tmp_path / "conv.yaml").write_text(text)
    plan = tfsparse.plan(tmp_path / "conv.yaml", "tflite-cpu", 0.9)
    assert "pll" not in plan.config and set(plan.config) == {"epochs", "data", "model", "optimizer", "prune"}
    plan.write(tmp_path / "plan.yaml")
    granularity = config.load(tmp_path / "plan.yaml").prune.pruner.options["granularity"]
    assert granularity == {"dense": [1, 4], "conv": "weight"}


def test_targets_without_gain_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="No weight of net gains on savedmodel by 0% zeros: no zeros. .*tfsparse.slim"):
        tfsparse.plan(network(), "savedmodel", 0.0)
    with pytest.raises(ValueError, match="Did you mean sparsity=0.9"):
        tfsparse.plan(network(), "savedmodel", 90)
    (tmp_path / "a.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot be trained: expected .* run directory or a \.keras file\.$"):
        tfsparse.plan(tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="exists, and tfsparse replaces only"):
        tfsparse.plan(network()).write(tmp_path / "a.tflite")
    (tmp_path / "feather.yaml").write_text(SMALL.replace("{name: random, scope: global, seed: 3}", "feather"))
    with pytest.raises(ValueError, match="Feather got granularity"):
        tfsparse.plan(tmp_path / "feather.yaml")


def test_commands_print_and_refuse(tmp_path):
    network().save(tmp_path / "model.keras")
    done = invoke("doctor", tmp_path / "model.keras", "--target", "any", "--no-measure")
    assert done.exit_code == 0 and "net on any" in done.stdout and "not asked for" in done.stdout
    for arguments in (
        ("doctor", tmp_path / "none.keras"),
        ("doctor", tmp_path / "model.keras", "--target", "tflite"),
        ("plan", tmp_path / "none.yaml"),
        ("plan", tmp_path / "model.keras", "--sparsity", "1.5"),
    ):
        refused = invoke(*arguments)
        assert refused.exit_code == 2 and refused.stderr.startswith("Error: ") and "Traceback" not in refused.output


def on_a_frozen_base():
    """A pruned base that is no longer trained, inside a model with a new head."""
    base = network()
    tfsparse.prune(base, 0.9, tfsparse.Magnitude((1, 4), "layer"))
    base.trainable = False
    head = [layers.Dense(256, activation="tanh", name="head"), layers.Dense(10, name="answers")]
    return keras.Sequential([keras.Input((64,)), base, *head])


def test_frozen_weights_keep_their_zeros_and_the_others_are_planned():
    plan = tfsparse.plan(on_a_frozen_base(), "tflite-cpu", 0.5)
    assert [row.granularity for row in plan.rows] == ["dense"] * 3 + ["weight"] * 2
    assert {row.smaller for row in plan.rows} == {"yes"}
    assert {row.why for row in plan.rows[:3]} == {"frozen: training leaves it as it is"}
    assert plan.config == {"prune": {"pruner": {"name": "magnitude", "granularity": "weight"}, "sparsity": 0.5}}
    assert not plan.notes


def test_a_model_without_trained_weights_cannot_be_planned():
    model = network()
    model.trainable = False
    with pytest.raises(ValueError, match="All weights of net are frozen, .* set trainable = True on the layers"):
        tfsparse.plan(model)
