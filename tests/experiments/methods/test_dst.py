"""Runs that train thresholds: like all runs resumable, and honest about what nobody asked for."""

import functools
import re
import types

import keras
import numpy as np
import pytest
import yaml
from small_config import SMALL, bits, small
from typer.testing import CliRunner

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import assembly, experiment
from tfsparse.experiments.config import ConfigError
from tfsparse_command.app import app

FIXED = "dst={alpha: 0.01}"
TARGET = "dst={sparsity: 0.75, alpha: 0.01, skip_last: true}"


def config(section):
    return small("prune=null", "epochs=4", "optimizer={name: sgd, learning_rate: 0.1, momentum: 0.9}", section)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The finished run of a section, trained once: its directory and its record."""

    @functools.cache
    def train(section):
        directory = tmp_path_factory.mktemp("dst") / "straight"
        return directory, experiment.train(config(section), directory)

    return train


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def killing(epoch, batch):
    def kill(now, logs=None):
        if killer.model.optimizer.iterations == 11 * epoch + batch:
            raise Killed

    killer = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
    return killer


@pytest.mark.parametrize(
    ("section", "epoch", "batch"),
    [
        (TARGET, 3, 11),
        pytest.param(FIXED, 2, 1, marks=pytest.mark.exhaustive),
        pytest.param(TARGET, 0, 3, marks=pytest.mark.exhaustive),
    ],
)
def test_broken_off_and_resumed_is_the_straight_run(finished, tmp_path, section, epoch, batch):
    directory = tmp_path / "run"
    with pytest.raises(Killed):
        experiment.train(config(section), directory, callbacks=[killing(epoch, batch)])
    assert len(run_directory.read(directory)["epochs"]) == epoch
    experiment.train(config(section), directory, resume=True)
    assert bits(directory) == bits(finished(section)[0])


def kernels(model):
    plain = tfsparse.finalize(model)
    return {layer.name: keras.ops.convert_to_numpy(layer.kernel) for layer in plain.layers if layer.weights}


def zeros(arrays):
    return sum(int(np.sum(array == 0)) for array in arrays) / sum(array.size for array in arrays)


@pytest.mark.parametrize(("section", "counted"), [(FIXED, ("dense1", "logits")), (TARGET, ("dense1",))])
def test_the_sparsity_of_a_run_is_that_of_its_thresholded_kernels(finished, section, counted):
    directory, run = finished(section)
    there = kernels(run_directory.read_model(directory / "model.keras"))
    sparsity = zeros([there[name] for name in counted])
    assert 0.05 < sparsity < 1
    assert run["summary"]["sparsity"] == pytest.approx(sparsity, abs=1e-9)
    assert run["epochs"][-1]["sparsity"] == pytest.approx(sparsity, abs=1e-6)
    assert run["summary"]["accuracy"] == run["epochs"][-1]["val_accuracy"] > 0.2


def test_the_target_is_met_to_the_weight_and_the_cut_is_measured(finished):
    _, run = finished(TARGET)
    summary, last = run["summary"], run["epochs"][-1]
    assert (summary["asked_sparsity"], summary["sparsity"]) == (0.75, 0.75)
    assert summary["method"] == "dst (target, alpha=0.01), skip_last"
    assert summary["accuracy_before_cut"] == last["uncut_accuracy"]
    assert summary["sparsity_before_cut"] == last["uncut_sparsity"] != 0.75
    assert summary["accuracy"] == pytest.approx(last["cut_accuracy"])


def test_a_fixed_alpha_asks_for_nothing_and_cuts_nothing(finished):
    _, run = finished(FIXED)
    assert run["summary"]["asked_sparsity"] is None and run["summary"]["method"] == "dst (alpha=0.01)"
    assert not {"accuracy_before_cut", "sparsity_before_cut"} & run["summary"].keys()
    assert [epoch["alpha"] for epoch in run["epochs"]] == pytest.approx([0.01] * 4)
    sparsities = [epoch["sparsity"] for epoch in run["epochs"]]
    assert sparsities == sorted(sparsities) and sparsities[0] < sparsities[-1]


def record(*epochs):
    entries = [{"epoch": i, "val_accuracy": a, "sparsity": s} for i, (a, s) in enumerate(epochs)]
    return {"seconds": [], "epochs": entries}


def test_the_best_epoch_says_how_sparse_it_was():
    run = record((0.99, 0.1), (0.98, 0.9), (0.97, 0.95))
    free, asked = (experiment._summary(config(s), run, {"sparsity": 0.95}) for s in (FIXED, "dst.sparsity=0.95"))
    keys = ("accuracy", "best_accuracy", "best_epoch", "best_sparsity")
    assert [free[key] for key in keys] == [0.97, 0.99, 0, 0.1]
    assert [asked[key] for key in keys] == [0.97, 0.97, 2, 0.95]


@pytest.mark.parametrize("section", [FIXED, TARGET], ids=["fixed", "target"])
def test_what_is_served_is_sparse_and_predicts_what_the_model_does(finished, section):
    import tensorflow as tf

    directory, _ = finished(section)
    model = run_directory.read_model(directory / "model.keras")
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    served = tf.saved_model.load(str(directory / "savedmodel"))
    np.testing.assert_allclose(served.serve(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    in_the_file = [v.numpy() for v in served.variables if len(v.shape) == 2]
    for array, kernel in zip(in_the_file, kernels(model).values(), strict=True):
        np.testing.assert_array_equal(array, kernel)
    rows = tfsparse.report(model).rows
    assert [row.kept for row in rows] == [np.count_nonzero(array) for array in in_the_file]


# --------------------------------------------------------------------------------------------------------- the section


DIGITS = types.SimpleNamespace(input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=11)


@pytest.mark.parametrize(
    "overrides, label",
    [
        (["dst={}"], "dst (alpha=0.0005)"),
        (["dst={alpha: 1e-5, threshold: matrix, skip_last: true}"], "dst (alpha=1e-05, threshold=matrix), skip_last"),
        (["dst.sparsity=0.9"], "dst (target)"),
        (["dst={sparsity: 0.9, alpha: 0.1, skip_first: true}"], "dst (target, alpha=0.1), skip_first"),
    ],
)
def test_the_label_names_options_that_are_not_the_default(overrides, label):
    assert assembly.label(small("prune=null", *overrides)) == label


def test_dst_of_nothing_is_the_paper_at_its_alpha():
    section = small("prune=null", "dst={}").dst
    assert (section.sparsity, section.alpha, section.threshold) == (None, 5e-4, "vector")
    assert not section.skip_first and not section.skip_last
    assert small().dst is None


@pytest.mark.parametrize(
    "override, message",
    [
        ("dst.sparsity=1.0", "dst.sparsity=1.0: expected null, or a fraction of zeros in [0, 1)"),
        ("dst.alpha=-1e-4", "dst.alpha=-0.0001: expected a number of at least 0"),
        ("dst.alpha=.nan", "dst.alpha=nan: expected a number of at least 0"),
        ("dst.threshold=layer", "dst.threshold='layer': expected vector, scalar or matrix"),
        ("dst.alhpa=1e-4", "dst.alhpa is not a key: did you mean dst.alpha?"),
        ("dst=vector", "dst='vector': expected null, or a section such as {alpha: 5e-4}"),
    ],
)
def test_wrong_values_are_named_with_what_was_expected(override, message):
    with pytest.raises(ConfigError) as caught:
        small(override)
    assert message in str(caught.value)


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


def test_dst_trains_with_gsm_that_gives_all_weights_their_gradient():
    assert assembly.callbacks(small("prune=null", "dst={}", "optimizer={name: gsm, compression: 1}"))


def test_the_command_line_says_that_there_is_no_target(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL | {"epochs": 1, "prune": None, "dst": {}}))
    invoke = lambda *words: CliRunner().invoke(app, [str(word) for word in words])  # noqa: E731
    done = invoke("train", tmp_path / "small.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert re.search(r"dst \(alpha=0.0005\): accuracy 0\.\d+ at sparsity 0\.\d+ \(target none\)", done.stdout)
    (row,) = [line for line in invoke("compare", tmp_path / "run").stdout.splitlines() if "digits" in line]
    assert [cell.strip() for cell in row.split("│")[3:5]] == ["dst (alpha=0.0005)", "none"]
