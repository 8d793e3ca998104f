"""What configs become."""

import pathlib
import types

import keras
import numpy as np
import pytest
from small_config import small

import tfsparse
from tfsparse.experiments import assembly, config, sections
from tfsparse.experiments.config import ConfigError
from tfsparse.experiments.zoo import models

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.yaml"))
DIGITS = types.SimpleNamespace(input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=11)
DST_OF_MATRICES = "dst (alpha=1e-05, threshold=matrix), skip_last"


@pytest.mark.parametrize(
    "overrides, method",
    [
        (["prune=null"], "dense"),
        ([], "one_cycle, magnitude"),
        (["prune.pruner={name: magnitude, scope: layer}"], "one_cycle, magnitude"),
        (["prune.pruner={name: random, scope: global}"], "one_cycle, random (scope=global)"),
        (["prune.schedule={name: one_cycle, beta: 6.0}"], "one_cycle (beta=6.0), magnitude"),
        (["prune.skip_last=true"], "one_cycle, magnitude, skip_last"),
        (["prune=null", "optimizer={name: gsm, compression: 60}"], "gsm"),
        (["prune=null", "optimizer={name: gsm, compression: 1}"], "dense"),
        (["prune=null", "start.mask=model.keras"], "winning ticket"),
        (["prune=null", "pll={sparsity: 0.9, skip_last: true}"], "pll, skip_last"),
        (["prune=null", "pll={start: 0.1}"], "pll (start=0.1)"),
        (["prune=null", "activation_density={rounds: 2}"], "activation density (rounds=2)"),
        (["prune=null", "dst={}"], "dst (alpha=0.0005)"),
        (["prune=null", "dst={alpha: 1e-5, threshold: matrix, skip_last: true}"], DST_OF_MATRICES),
        (["prune=null", "dst.sparsity=0.9"], "dst (target)"),
        (["prune=null", "dst={sparsity: 0.9, alpha: 0.1, skip_first: true}"], "dst (target, alpha=0.1), skip_first"),
    ],
)
def test_methods_are_named_by_what_is_not_the_default(overrides, method):
    assert assembly.label(small(*overrides)) == method


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_parts_that_there_are(path):
    read = config.load(path)
    prunes = bool(assembly.callbacks(read))
    dense = {"base", "dense", "ticket", "density"}  # what shrinks has no callback that prunes
    assert prunes == dense.isdisjoint(path.stem.split("_"))
    others = read.start.mask or read.activation_density
    assert (assembly.label(read) == "dense") == (not prunes and not others)
    assembly.optimizer(read.optimizer, total_steps=100)
    assert read.model.name in models.names()


def test_optimizer_arguments_reach_keras():
    section = small("optimizer={name: sgd, learning_rate: 0.5, momentum: 0.9, nesterov: true, clipnorm: 1.0}").optimizer
    made = assembly.optimizer(section, total_steps=10)
    assert type(made).__name__ == "SGD"
    assert (float(made.learning_rate), made.momentum, made.nesterov, made.clipnorm) == (0.5, 0.9, True, 1.0)


def test_one_cycle_runs_over_the_whole_training():
    section = small("optimizer.learning_rate.warmup=0.5", "optimizer.momentum=one_cycle").optimizer
    made = assembly.optimizer(section, total_steps=40)
    assert type(made).__name__ == "OneCycleAdam"
    assert float(made._learning_rate(20)) == pytest.approx(0.01)
    assert float(made._learning_rate(40)) == pytest.approx(0.01 / 1e5)


def test_steps_are_fractions_of_the_whole_training():
    section = small("optimizer.learning_rate={name: steps, first: 0.1, boundaries: [0.5], warmup: 0.1}").optimizer
    made = assembly.optimizer(section, total_steps=40)
    assert [round(float(made._learning_rate(k)), 4) for k in (0, 2, 4, 19, 20)] == [0, 0.05, 0.1, 0.1, 0.01]


def test_gsm_is_an_optimizer_and_brings_its_cut():
    asked = small("prune=null", "optimizer={name: gsm, compression: 4}")
    assert assembly.optimizer(asked.optimizer, total_steps=40).compression == 4
    (callback,) = assembly.callbacks(asked, "data")
    assert isinstance(callback, tfsparse.PruneGSM) and callback.data == "data"
    assert assembly.target_sparsity(asked) == 0.75
    assert assembly.callbacks(small("prune=null", "optimizer={name: gsm, compression: 1}")) == []


def test_weights_come_from_the_file(tmp_path):
    keras.utils.set_random_seed(3)
    trained = assembly.compiled_model(small("prune=null"), DIGITS)
    trained.save(tmp_path / "base.keras")
    start = assembly.start_models(sections.StartConfig(weights=str(tmp_path / "base.keras")))
    model = assembly.compiled_model(small("prune=null"), DIGITS, *start)
    np.testing.assert_array_equal(model.get_weights()[0], trained.get_weights()[0])
    with pytest.raises(ConfigError, match="start: .* does not fit"):
        assembly.compiled_model(small("prune=null", "model.widths=[9]", "start.weights=base.keras"), DIGITS, *start)
    with pytest.raises(ConfigError, match="start: ticket.keras does not fit: mask holds one of shape"):
        assembly.compiled_model(small("model.widths=[9]", "start.mask=ticket.keras"), DIGITS, None, trained)


def test_dst_wraps_the_layers_that_the_section_does_not_skip():
    section = "dst={alpha: 0.02, threshold: scalar, skip_last: true}"
    model = assembly.compiled_model(small("prune=null", "model.widths=[9, 9]", section), DIGITS)
    assert model.compiled and model.loss.from_logits
    wrapped = {layer.name: layer for layer in model.layers if isinstance(layer, tfsparse.Thresholded)}
    assert list(wrapped) == ["dense1", "dense2"]
    for layer in wrapped.values():
        assert float(layer.alpha) == pytest.approx(0.02)
        assert [int(np.prod(threshold.shape)) for threshold in layer.thresholds] == [1]


def test_dst_thresholds_the_first_weights_of_the_seed_or_of_a_file(tmp_path):
    keras.utils.set_random_seed(3)
    dense = assembly.compiled_model(small("prune=null"), DIGITS)
    keras.utils.set_random_seed(3)
    of_the_seed = assembly.compiled_model(small("prune=null", "dst={}"), DIGITS)
    keras.utils.set_random_seed(4)
    of_a_file = assembly.compiled_model(small("prune=null", "dst={}", "start.weights=base.keras"), DIGITS, dense)
    for model in (of_the_seed, of_a_file):
        for mine, theirs in zip(tfsparse.finalize(model).get_weights(), dense.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)  # thresholds begin at 0


@pytest.mark.parametrize(("sparsity", "asked"), [("null", None), ("0.75", 0.75)])
def test_dst_brings_its_callback_and_asks_only_with_a_target(sparsity, asked):
    section = small("prune=null", f"dst.sparsity={sparsity}")
    (callback,) = assembly.callbacks(section, "data")
    assert isinstance(callback, tfsparse.DST) and callback.sparsity == asked
    assert callback.data == (asked and "data")  # without a target nothing is cut, and nothing measured
    assert assembly.target_sparsity(section) == asked


@pytest.mark.parametrize(
    ("overrides", "mend"),
    [
        (["dst={}"], "dst and prune both decide.*--set dst=null.*--set prune=null"),
        (["dst={}", "prune=null", "optimizer={name: gsm, compression: 4}"], "--set optimizer.compression=1"),
        (["dst={}", "prune=null", "start.mask=model.keras"], "--set start.mask=null"),
        (["pll={}"], "pll and prune both decide"),
    ],
)
def test_dst_stands_alone(overrides, mend):
    with pytest.raises(ConfigError, match=mend):
        assembly.callbacks(small(*overrides))


def test_dst_trains_with_gsm_that_gives_all_weights_their_gradient():
    assert assembly.callbacks(small("prune=null", "dst={}", "optimizer={name: gsm, compression: 1}"))
