import keras
import numpy as np
import pytest
from keras import ops

from tfsparse import SmoothedCrossentropy
from tfsparse.methods.tost.loss import smoothed_labels

LOGITS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
LABELS = np.array([2, 1])
ONE_HOT = np.eye(3)[LABELS].astype("float32")


def reference(alpha):
    """Mean of -sum(target * log softmax) in NumPy."""
    logs = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    targets = np.full((2, 3), alpha / 2)
    targets[[0, 1], LABELS] = 1 - alpha
    return -np.mean((targets * logs).sum(-1))


def test_golden_labels():
    expected = [[0.05, 0.9, 0.05], [0.9, 0.05, 0.05]]
    found = smoothed_labels(ops.convert_to_tensor(np.eye(3)[[1, 0]]), num_classes=3, alpha=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], ONE_HOT], ids=["integers", "column", "one_hot"])
def test_the_loss_is_that_of_the_reference_for_all_forms_of_labels(alpha, labels):
    found = float(SmoothedCrossentropy(alpha, from_logits=True)(labels, LOGITS))
    assert found == pytest.approx(reference(alpha), rel=1e-6)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    assert float(SmoothedCrossentropy(alpha)(labels, probabilities)) == pytest.approx(reference(alpha), rel=1e-5)


def test_it_is_keras_s_with_another_constant():
    other = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1 * 3 / 2)
    expected = float(other(ONE_HOT, LOGITS))
    assert float(SmoothedCrossentropy(0.1, from_logits=True)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)


def test_labels_and_outputs_may_have_more_axes():
    logits, labels = np.broadcast_to(LOGITS, (4, 2, 3)), np.broadcast_to(LABELS, (4, 2))
    loss = SmoothedCrossentropy(0.1, from_logits=True, reduction=None)
    for form in (labels, labels[..., None], np.eye(3)[labels]):
        assert loss(form, logits).shape == (4, 2)
    assert float(ops.mean(loss(labels, logits))) == pytest.approx(reference(0.1), rel=1e-6)


def test_a_model_is_trained_saved_and_loaded_with_it(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", SmoothedCrossentropy(0.2, from_logits=True, name="ls"), metrics=["accuracy"])
    assert "accuracy" in model.fit(LOGITS, LABELS, verbose=0).history
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").loss
    assert (loaded.alpha, loaded.from_logits, loaded.name) == (0.2, True, "ls")


@pytest.mark.parametrize("alpha", [-0.1, 1, True, "0.1"])
def test_an_alpha_that_is_no_probability_is_an_error(alpha):
    with pytest.raises(ValueError, match=r"expected a probability in \[0, 1\), for example alpha=0.1"):
        SmoothedCrossentropy(alpha)


@pytest.mark.parametrize(("labels", "outputs"), [(np.ones((2, 4)), LOGITS), (np.ones((2, 1)), np.ones((2, 1)))])
def test_labels_of_another_shape_are_an_error(labels, outputs):
    with pytest.raises(ValueError, match=r"got labels of shape \(2, .\) for outputs of shape \(2, .\): expected"):
        SmoothedCrossentropy()(labels, outputs)
