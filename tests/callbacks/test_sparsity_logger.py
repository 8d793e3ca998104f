import keras
import numpy as np
import pytest
from keras import ops

from tfsparse import Magnitude, Prune, SparsityLogger, testing


def logged(tmp_path, pruner):
    import tensorflow as tf

    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    logger = SparsityLogger(tmp_path)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[Prune(sparsity=0.5, pruner=pruner), logger])
    scalars = {}
    for file in tmp_path.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                scalars[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return model, logger, scalars


def test_every_pruned_weight_has_its_target_and_its_actual_sparsity(tmp_path):
    model, logger, scalars = logged(tmp_path, Magnitude())
    assert len(logger.history) == 3
    for variable in model.optimizer.pruned_variables:
        actual = np.mean(ops.convert_to_numpy(variable) == 0)
        assert logger.history[-1][variable.path] == pytest.approx(actual)
        assert scalars[f"sparsity/{variable.path}", 2] == pytest.approx(actual, abs=1e-6)
        assert scalars[f"sparsity_target/{variable.path}", 2] == pytest.approx(0.5, abs=0.01)


def test_a_global_threshold_has_no_target_per_weight(tmp_path):
    _, _, scalars = logged(tmp_path, Magnitude(scope="global"))
    assert scalars
    assert not any(tag.startswith("sparsity_target") for tag, _ in scalars)
