import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import pruners, testing

random = np.random.default_rng(3)
X = random.normal(size=(20, 5, 5, 2)).astype("float32") * np.array([1.0, 6.0], "float32")


def network(**options):
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(3, 3, activation="relu", **options),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    return model


def patches(padding, strides):
    """The inputs of a 3 x 3 kernel as rows, written with loops."""
    x = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == "same" else X
    places = range(0, x.shape[1] - 2, strides)
    return np.array([image[i : i + 3, j : j + 3].ravel() for image in x for i in places for j in places])


@pytest.mark.parametrize(("padding", "strides"), [("valid", 1), ("same", 1), ("valid", 2)])
def test_golden_wanda(padding, strides):
    model = network(padding=padding, strides=strides)
    kernel, head = (np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables[::2])
    hidden = ops.convert_to_numpy(model.layers[1](model.layers[0](X)))
    tfsparse.prune(model, 0.5, "wanda", data=X)
    for variable, value, inputs in ((0, kernel, patches(padding, strides)), (2, head, hidden)):
        found = ops.convert_to_numpy(model.trainable_variables[variable]).reshape(-1, value.shape[-1])
        value = value.reshape(found.shape)
        scores, expected = np.abs(value) * np.linalg.norm(inputs, axis=0)[:, None], value.copy()
        for column in range(value.shape[1]):
            num_pruned = np.sum(found[:, column] == 0)
            assert abs(num_pruned - 0.5 * len(value)) <= 0.5
            expected[np.argsort(scores[:, column])[:num_pruned], column] = 0
        np.testing.assert_array_equal(found, expected)


def attention():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 6))
    outputs = layers.MultiHeadAttention(num_heads=3, key_dim=2, name="mha")(inputs, inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(outputs)))


SEQUENCES = (random.normal(size=(9, 4, 6)) * np.array([1, 1, 5, 1, 1, 1])).astype("float32")


def test_the_heads_of_attention_are_outputs_and_their_values_inputs():
    """Query, key and value have 6 inputs and 3 x 2 outputs, the output layer has 3 x 2 inputs and 6 outputs."""
    model = attention()
    before = {v.path: np.array(ops.convert_to_numpy(v)) for v in model.weights}
    tfsparse.prune(model, 0.5, "wanda", data=SEQUENCES)
    norms = np.linalg.norm(SEQUENCES.reshape(-1, 6), axis=0)
    for part in ("query", "key", "value"):
        found = ops.convert_to_numpy(next(v for v in model.weights if v.path == f"mha/{part}/kernel")).reshape(6, 6)
        kernel = before[f"mha/{part}/kernel"].reshape(6, 6)
        expected, scores = kernel.copy(), np.abs(kernel) * norms[:, None]
        for column in range(6):
            expected[np.argsort(scores[:, column])[:3], column] = 0
        np.testing.assert_array_equal(found, expected)
    kernel = next(v for v in model.weights if v.path == "mha/attention_output/kernel")
    np.testing.assert_array_equal((ops.convert_to_numpy(kernel).reshape(6, 6) == 0).sum(axis=0), 3)


def test_magnitude_would_keep_other_weights():
    by_wanda, by_magnitude = network(), network()
    tfsparse.prune(by_wanda, 0.5, "wanda", data=X)
    tfsparse.prune(by_magnitude, 0.5, pruners.Magnitude(scope="layer"))
    first, second = (ops.convert_to_numpy(m.layers[0].kernel) != 0 for m in (by_wanda, by_magnitude))
    assert first.sum() == second.sum()
    assert first[:, :, 1].mean() > 0.8 > second[:, :, 1].mean()  # the second input is six times as large


def test_patterns_are_kept():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    tfsparse.prune(model, 0.5, pruners.Wanda("2:4"), data=random.normal(size=(10, 8)).astype("float32"))
    groups = ops.convert_to_numpy(model.layers[0].kernel).reshape(2, 4, 6) != 0
    np.testing.assert_array_equal(groups.sum(axis=1), 2)


def test_wanda_passes_the_checks_outside_training():
    for options in ({}, {"granularity": "2:4"}, {"allocation": "erk"}):
        pruner = pruners.get("wanda", **options)
        testing.check_config(pruner)
        testing.check_exact_count_with_ties(pruner)
        testing.check_monotone(pruner)


def test_layers_whose_inputs_are_not_known_are_named():
    model = keras.Sequential([keras.Input((6, 2)), layers.Conv1D(4, 3), layers.Flatten(), layers.Dense(2)])
    x = random.normal(size=(3, 6, 2)).astype("float32")
    with pytest.raises(ValueError, match=r"kernel is no kernel of a Dense layer.*exclude=\[layer\]"):
        tfsparse.prune(model, 0.5, "wanda", data=x)
    tfsparse.prune(model, 0.5, "wanda", data=x, exclude=[model.layers[0]])
    with pytest.raises(ValueError, match="data is None"):
        tfsparse.prune(model, 0.5, "wanda")


@pytest.mark.parametrize("options", [{"granularity": "channel"}, {"scope": "global"}])
def test_options_that_cannot_work_are_errors(options):
    with pytest.raises(ValueError, match=f"Wanda got {next(iter(options))}="):
        pruners.Wanda(**options)
