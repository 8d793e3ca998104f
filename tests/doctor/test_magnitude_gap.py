"""Weights that were changed after pruning have a gap in their magnitudes; all others have none."""

import keras
import numpy as np
import pytest
from doctor.golden_models import dense, images, pruned
from keras import ops

from tfsparse.doctor.magnitude_gap import find_gap


def found(model):
    return [find_gap(ops.convert_to_numpy(v)) for v in model.trainable_variables if len(v.shape) > 1]


def one_step_more(model, optimizer):
    """As TFMOT does it: masks before each forward pass, none after the last step; momentum is never masked."""
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    masks = [ops.cast(v != 0, "float32") for v in kernels]
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.random.default_rng(1).integers(0, 10, 64)
    for step in range(12):
        for variable, mask in zip(kernels, masks, strict=True):
            variable.assign(variable * mask)
        chosen = np.arange(step, step + 16) % 64
        model.train_on_batch(images()[chosen], labels[chosen])
    return model


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3),
}


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_after_the_last_mask_makes_a_gap(name, sparsity):
    for gap in found(one_step_more(pruned(sparsity=sparsity), OPTIMIZERS[name]())):
        assert gap.below == pytest.approx(sparsity, abs=0.01) and sparsity / 2 < gap.tiny <= gap.below


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ordinary_training_makes_no_gap(name):
    model = dense()
    model.compile(OPTIMIZERS[name](), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(), np.random.default_rng(1).integers(0, 10, 64), epochs=5, verbose=0)
    assert found(model) == [None] * 3


@pytest.mark.parametrize("granularity", ["weight", (1, 4), "channel"])
def test_pruned_weights_have_no_gap(granularity):
    assert found(pruned(granularity)) == [None] * 3


@pytest.mark.parametrize("distribution", ["normal", "uniform", "laplace", "standard_cauchy"])
def test_initial_weights_have_no_gap(distribution):
    assert find_gap(getattr(np.random.default_rng(0), distribution)(size=100_000)) is None


def test_gap_of_a_hand_made_weight():
    weight = np.concatenate([np.zeros(100), np.full(300, -1e-3), np.full(100, 1.0)])
    gap = find_gap(weight)
    assert (gap.tiny, gap.below) == (0.6, 0.8) and 1e-3 < gap.magnitude < 1
    assert find_gap(np.concatenate([np.zeros(100), np.full(40, 1e-3), np.full(400, 1.0)])) is None  # too few
    assert find_gap(np.concatenate([np.full(300, 1e-3), np.full(5, 1.0)])) is None  # nothing to speak of above


@pytest.mark.parametrize("weight", [np.zeros((3, 4)), np.ones((3, 4)), np.array([1.0, np.nan]), np.zeros((0, 3))])
def test_weights_without_a_histogram_have_no_gap(weight):
    assert find_gap(weight) is None
