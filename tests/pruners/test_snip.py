import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import pruners

random = np.random.default_rng(2)
X, Y = random.normal(size=(16, 4)).astype("float32"), random.integers(0, 3, 16)


def network():
    """Dense 4-5, tanh, Dense 5-3: 35 kernel entries."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="tanh"), layers.Dense(3)])
    draw = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def reference_gradients(weights, biases):
    """Of the mean cross-entropy with respect to both kernels, in float64."""
    hidden = np.tanh(X.astype("float64") @ weights[0] + biases[0])
    exponentials = np.exp(hidden @ weights[1] + biases[1])
    error = (exponentials / exponentials.sum(1, keepdims=True) - np.eye(3)[Y]) / len(Y)
    return [X.T @ ((error @ weights[1].T) * (1 - hidden**2)), hidden.T @ error]


def reference_masks(model, sparsity, rounds):
    """Iterative SNIP with one threshold, written once more in NumPy."""
    values = [np.asarray(ops.convert_to_numpy(v), "float64") for v in model.trainable_variables]
    weights, biases = values[::2], values[1::2]
    for r in range(1, rounds + 1):
        gradients = reference_gradients(weights, biases)
        scores = np.concatenate([np.abs(w * g).ravel() for w, g in zip(weights, gradients, strict=True)])
        num_pruned = round((1 - (1 - sparsity) ** (r / rounds)) * scores.size)
        kept = np.ones(scores.size)
        kept[np.argsort(scores, kind="stable")[:num_pruned]] = 0
        masks = [kept[:20].reshape(4, 5), kept[20:].reshape(5, 3)]
        weights = [w * mask for w, mask in zip(weights, masks, strict=True)]
    return masks


@pytest.mark.parametrize("rounds", [1, 5])
def test_golden_snip(rounds):
    model = network()
    expected = reference_masks(model, 0.6, rounds)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    tfsparse.prune(model, 0.6, pruners.SNIP(rounds=rounds), data=(X, Y))
    for value, weight, mask in zip(model.trainable_variables[::2], before[::2], expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(value), np.where(mask, weight, 0))
    for value, bias in zip(model.trainable_variables[1::2], before[1::2], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(value), bias)


def test_rounds_give_another_mask_than_a_single_shot():
    single, iterative = (np.concatenate([m.ravel() for m in reference_masks(network(), 0.6, n)]) for n in (1, 5))
    assert np.any(single != iterative) and single.sum() == iterative.sum()
