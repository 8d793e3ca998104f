"""What configs become."""

import itertools
import types

import keras
import numpy as np
import pytest
from small_config import configs, small

import tfsparse
from tfsparse.experiments import assembly, config, sections
from tfsparse.experiments.config import ConfigError
from tfsparse.experiments.methods import METHODS
from tfsparse.experiments.zoo import models

DIGITS = types.SimpleNamespace(input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=11)


@pytest.mark.parametrize(
    "overrides, method",
    [
        (["prune=null"], "dense"),
        ([], "one_cycle, magnitude"),
        (["prune.pruner={name: magnitude, scope: layer}"], "one_cycle, magnitude (scope=layer)"),
        (["prune.pruner={name: random, scope: global}"], "one_cycle, random (scope=global)"),
        (["prune.schedule={name: one_cycle, beta: 6.0}"], "one_cycle (beta=6.0), magnitude"),
        (["prune.skip_last=true"], "one_cycle, magnitude, skip_last"),
        (["prune.max_sparsity=0.97"], "one_cycle, magnitude, kernels within (0.0, 0.97)"),
        (["prune=null", "start.mask=model.keras"], "winning ticket"),
    ],
)
def test_methods_are_named_by_what_is_not_the_default(overrides, method):
    assert assembly.label(small(*overrides)) == method


@pytest.mark.parametrize("path", configs(), ids=lambda path: path.stem)
def test_every_config_names_parts_that_exist(path):
    read = config.load(path)
    prunes = bool(assembly.callbacks(read))
    dense = {"base", "dense", "ticket", "density"}  # what shrinks has no callback that prunes
    assert prunes == dense.isdisjoint(path.stem.split("_"))
    others = read.start.mask or assembly.driver_method(read)
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


# ------------------------------------------------------------------------------------------------------ several methods


SECTIONS = {
    "activation_density": "activation_density={}",
    "dst": "dst={}",
    "feature_relevance": "feature_relevance={}",
    "filter_pruning": "filter_pruning={}",
    "gsm": "optimizer={name: gsm, compression: 4}",
    "pll": "pll={}",
    "prune": "prune={sparsity: 0.5}",
}


@pytest.mark.parametrize("first, second", [*itertools.combinations(sorted(METHODS), 2)])
def test_two_methods_are_refused_unless_both_combine(first, second):
    asked, pair = small("prune=null", SECTIONS[first], SECTIONS[second]), (METHODS[first], METHODS[second])
    if all(method.combines for method in pair):
        (callback,) = assembly.callbacks(asked)
        assert isinstance(callback, tfsparse.Prune), "the schedule decides the target"
        return
    with pytest.raises(ConfigError, match="both decide which weights are pruned") as caught:
        assembly.callbacks(asked)
    assert all(f"--set {method.remove}" in str(caught.value) for method in pair)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_mask_to_start_from_is_refused_with_methods_that_do_not_combine(name):
    asked = small("prune=null", SECTIONS[name], "start.mask=model.keras")
    if METHODS[name].combines:
        assert assembly.callbacks(asked)
        return
    with pytest.raises(ConfigError, match="--set start.mask=null"):
        assembly.callbacks(asked)
