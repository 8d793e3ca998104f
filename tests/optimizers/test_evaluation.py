import keras
import pytest

from tfsparse import testing
from tfsparse.optimizers import evaluation


def test_a_pruner_that_scores_gradients_cannot_cut():
    assert evaluation.check_pruner("magnitude").scope == "global"
    with pytest.raises(ValueError, match='write pruner="magnitude"'):
        evaluation.check_pruner("saliency")


def test_the_metric_is_the_one_given_or_accuracy_or_the_loss():
    both = {"loss": 1.0, "accuracy": 0.5}
    assert evaluation.check_metric(None, both) == "accuracy" and evaluation.check_metric("loss", both) == "loss"
    assert evaluation.check_metric(None, {"loss": 1.0}) == "loss"
    with pytest.raises(ValueError, match="metric='auc': the model has 'loss'"):
        evaluation.check_metric("auc", {"loss": 1.0})


def test_arrays_are_evaluated_as_a_dataset_is():
    import tensorflow as tf

    model = testing.small_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = testing.small_data()
    results = evaluation.evaluate(model, (x, y))
    assert results == pytest.approx(evaluation.evaluate(model, tf.data.Dataset.from_tensor_slices((x, y)).batch(32)))
