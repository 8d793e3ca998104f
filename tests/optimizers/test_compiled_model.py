import keras
import numpy as np
from keras import ops

import tfsparse
from tfsparse import testing
from tfsparse.optimizers import compiled_model

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_sparsify_without_a_callback():
    model = testing.small_model()
    model.compile("sgd", LOSS)
    optimizer = tfsparse.sparsify(model, "linear", sparsity=0.5, total_steps=8)
    assert compiled_model.sparse_optimizer(model) is optimizer
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert optimizer.current_sparsity() == 0.5


def test_loss_scaling_stays_outside_with_its_state():
    model = testing.small_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0), LOSS)
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, verbose=0)
    model.optimizer.dynamic_scale.assign(32.0)
    tfsparse.sparsify(model, sparsity=0.5, total_steps=8)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(ops.convert_to_numpy(model.optimizer.dynamic_scale)) == 32.0
    assert compiled_model.sparse_optimizer(model) is model.optimizer.inner_optimizer


def test_a_loss_scaled_model_is_saved_whole(tmp_path):
    model = testing.small_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)), LOSS)
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)])
    names = [v.path for v in model.optimizer.variables]
    assert len(names) == len(set(names))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for mine, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs))
