import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse

random = np.random.default_rng(0)
X = (random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 1).astype("float32")


def network(activation=None):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation=activation), layers.Dense(3)])
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    return model


def test_one_layer_is_fitted_by_ridge_regression():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    dense = np.asarray(ops.convert_to_numpy(model.layers[0].kernel), "float64")
    tfsparse.prune(model, 0.5, tfsparse.Magnitude(scope="layer"), data=X, recover=True)
    kernel, bias = (ops.convert_to_numpy(v) for v in model.trainable_variables)
    kept = np.abs(dense) >= np.sort(np.abs(dense).ravel())[9]
    np.testing.assert_array_equal(kernel != 0, kept)
    centered = X.astype("float64") - X.mean(axis=0)
    ridge = np.sqrt(0.01 * np.mean(np.sum(centered**2, axis=0)))
    for column in range(3):
        rows = np.flatnonzero(kept[:, column])
        matrix = np.vstack([centered[:, rows], ridge * np.eye(len(rows))])
        target = np.concatenate([centered @ dense[:, column], ridge * dense[rows, column]])
        expected = np.linalg.lstsq(matrix, target, rcond=None)[0]
        np.testing.assert_allclose(kernel[rows, column], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose((X @ kernel + bias).mean(axis=0), (X @ dense).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("pruner", ["wanda", "magnitude"])
def test_recovery_brings_outputs_nearer_and_keeps_the_zeros(pruner):
    errors, zeros = [], []
    for recover in (False, True):
        model = network("relu")
        before = ops.convert_to_numpy(model(X))
        data = None if pruner == "magnitude" and not recover else X
        tfsparse.prune(model, 0.6, pruner, data=data, recover=recover)
        errors.append(np.mean((ops.convert_to_numpy(model(X)) - before) ** 2))
        zeros.append([ops.convert_to_numpy(v) == 0 for v in model.trainable_variables[::2]])
    assert errors[1] < errors[0] / 2
    assert all(np.array_equal(a, b) for a, b in zip(*zeros, strict=True))


def test_attention_is_recovered_too():
    errors = []
    for recover in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 6))
        model = keras.Model(inputs, layers.MultiHeadAttention(num_heads=2, key_dim=3)(inputs, inputs))
        x = X.reshape(40, 5, 6)
        before = ops.convert_to_numpy(model(x))
        tfsparse.prune(model, 0.5, "wanda", data=x, recover=recover)
        assert tfsparse.report(model).sparsity == 0.5
        errors.append(np.mean((ops.convert_to_numpy(model(x)) - before) ** 2))
    assert errors[1] < errors[0] / 2


def test_later_layers_are_fitted_to_what_earlier_ones_give_now():
    model = network()
    before = ops.convert_to_numpy(model(X))
    tfsparse.prune(model, 0.0, data=X, recover=True, sparsities={model.layers[0]: 0.4})
    # the second layer stays dense and makes up for what the first has lost
    error = ops.convert_to_numpy(model(X)) - before
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.std(before)


def test_recovery_needs_data():
    with pytest.raises(ValueError, match=r"fits weights to data.*prune\(model, 0.5, data=x, recover=True\)"):
        tfsparse.prune(network(), 0.5, recover=True)
