"""Scores of channels: golden numbers."""

import numpy as np
import pytest
from keras import Input, Model, layers

from tfsparse import Channels
from tfsparse.methods.feature_relevance import scores


def test_classes_of_low_accuracy_weigh_more():
    expected = [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2)), 1]
    np.testing.assert_allclose(scores.class_weights([0.8, 0.4, 0.0]), expected)
    np.testing.assert_allclose(scores.class_weights([0.0, 0.0]), [1, 1])
    np.testing.assert_allclose(scores.class_weights([0.8, np.nan]), [1 / (1 + np.exp(-1)), np.nan])


def test_relevance_is_a_mean_over_classes_of_weighted_means():
    relevance = np.array([[1.0, 0.0], [3.0, -2.0], [-5.0, 4.0]])
    labels, predictions = np.array([0, 0, 2]), np.array([0, 1, 2])  # accuracies 1/2 and 1, and no example of class 1
    found = scores.channel_relevance(relevance, labels, predictions, num_classes=3)
    first, last = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found, [abs(2 * first - 5 * last) / 2, abs(-1 * first + 4 * last) / 2])


def groups():
    inputs = Input((2,))
    x = layers.Dense(3, activation="relu", name="a")(inputs)
    return Channels(Model(inputs, layers.Dense(2)(layers.Dense(4, activation="relu", name="b")(x)))).groups[:2]


def test_channels_of_all_layers_are_ranked_together():
    found = {"a": np.array([0.1, 0.9, 0.4]), "b": np.array([0.2, 0.3, 0.05, 0.8])}
    assert scores.kept_channels(groups(), found, 3, smallest=1) == {"a": [1, 2], "b": [1, 3]}
    assert scores.kept_channels(groups(), found, 4, smallest=1) == {"a": [1, 2], "b": [3]}
    assert scores.kept_channels(groups(), found, 0, smallest=1) == {}


def test_a_layer_keeps_its_smallest_width_and_others_lose_more():
    found = {"a": np.array([0.01, 0.02, 0.03]), "b": np.array([0.2, 0.3, 0.4, 0.8])}
    assert scores.kept_channels(groups(), found, 3, smallest=1) == {"a": [2], "b": [1, 2, 3]}
    assert scores.kept_channels(groups(), found, 2, smallest=3) == {"b": [1, 2, 3]}


def test_of_equal_channels_the_lower_index_stays():
    found = {"a": np.ones(3), "b": np.ones(4)}
    assert scores.kept_channels(groups(), found, 2, smallest=1) == {"a": [0]}


@pytest.mark.parametrize(
    "labels", [np.array([0, 2, 1]), np.array([[0.0], [2.0], [1.0]]), np.eye(3)[[0, 2, 1]]], ids=["flat", "one", "hot"]
)
def test_labels_are_classes_or_one_hot_rows(labels):
    assert scores.class_indices(labels, 3).tolist() == [0, 2, 1]


@pytest.mark.parametrize("labels", [np.array([0, 3]), np.array([0.5, 1]), np.zeros((2, 3)), np.zeros((2, 4))])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(
        ValueError, match="are no classes of a model with 3 outputs: .* numbers from 0 to 2"
    ):
        scores.class_indices(labels, 3)
