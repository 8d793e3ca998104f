import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import pruners, testing
from tfsparse.optimizers.calibration import Calibration
from tfsparse.testing.fixtures import fit

random = np.random.default_rng(0)
X, Y = random.normal(size=(64, 8, 8, 2)).astype("float32"), random.integers(0, 4, 64)


def deep_network():
    keras.utils.set_random_seed(1)
    blocks = [
        (layers.Conv2D(width, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU())
        for width in (8, 8, 8, 8, 16, 16, 16, 16)
    ]
    end = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((8, 8, 2)), *[layer for block in blocks for layer in block], *end])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(2)
    for kernel in kernels(model):  # the same on all backends
        kernel.assign(draw.normal(scale=np.sqrt(2 / np.prod(kernel.shape[:-1])), size=kernel.shape))
    return model


def kernels(model):
    return [v for v in model.trainable_variables if v.name == "kernel"]


def living(model):
    return [int(np.sum(ops.convert_to_numpy(kernel) != 0)) for kernel in kernels(model)]


@pytest.mark.parametrize("pruner", [pruners.SNIP(), pruners.Synflow()], ids=repr)
def test_one_shot_scores_would_empty_a_layer(pruner):
    model = deep_network()
    calibration = Calibration(model, kernels(model), (X, Y))
    weights = [ops.convert_to_tensor(kernel.value) for kernel in kernels(model)]
    found = zip(weights, pruner.sensitivities(calibration, weights), strict=True)
    scores = [np.ravel(ops.convert_to_numpy(pruner.score(w, g, ops.ones_like(w)))) for w, g in found]
    threshold = np.quantile(np.concatenate(scores), 0.99)
    assert min(np.sum(s > threshold) for s in scores) == 0


@pytest.mark.parametrize("pruner", [pruners.SNIP(rounds=20), pruners.Synflow(rounds=20)], ids=repr)
def test_rounds_leave_every_layer_more_than_the_floor(pruner):
    model = deep_network()
    sizes = [int(np.prod(kernel.shape)) for kernel in kernels(model)]
    tfsparse.prune(model, 0.95, pruner, data=(X, Y))
    assert sum(living(model)) == sum(sizes) - round(0.95 * sum(sizes))
    assert all(n > 1.5 * floor(size, 0.05) for n, size in zip(living(model), sizes, strict=True))


def floor(size, kept):
    """What global pruning leaves a layer at least: one entry and a tenth of its share of the rest."""
    return 1 + int(kept * (size - 1) / 10)


def test_one_shot_snip_needs_the_floor_of_global_pruning():
    model = deep_network()
    tfsparse.prune(model, 0.98, pruners.SNIP(rounds=1), data=(X, Y))
    assert living(model)[5:8] == [floor(2304, 0.02)] * 3


@pytest.mark.parametrize("rounds", [0, True, 2.5])
def test_rounds_are_a_whole_number(rounds):
    with pytest.raises(ValueError, match=r"rounds=.*: expected a whole number of at least 1, as in SNIP\(rounds=100\)"):
        pruners.SNIP(rounds=rounds)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_calibrated_pruners_pass_the_checks_outside_training(name):
    pruner = pruners.get(name)
    testing.check_config(pruner)
    testing.check_exact_count_with_ties(pruner)
    testing.check_monotone(pruner)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_a_calibrated_pruner_is_refused_in_training(name):
    x, y = testing.small_data()
    with pytest.raises(ValueError, match=r'not in a step of it.*Prune\("constant", sparsity, pruner, data=\(x, y\)\)'):
        tfsparse.sparsify(fit(pruners.Magnitude(), epochs=1), "constant", 0.5, name)
    optimizer = tfsparse.SparseOptimizer("sgd", "constant", 0.5, name, total_steps=10)
    model = testing.small_model()
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    with pytest.raises(ValueError, match="not in a step of it"):
        model.fit(x, y, verbose=0)
