import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models

import tfsparse
from tfsparse import tfmot
from tfsparse.testing import two_cpu_strategy
from tfsparse.tfmot import GSM

W1, G1 = [[0.5, -0.2], [0.1, 0.0]], [[0.1, -0.3], [0.9, 2.0]]
W2, G2 = [[1.0, -0.4], [0.05, 0.3]], [[0.02, 0.5], [-0.1, 0.2]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-7), ("float32", 1e-5)])
def test_golden_vector(dtype, tolerance):
    variables = [tf.Variable(np.array(w, dtype), name="dense/kernel") for w in (W1, W2)]
    optimizer = GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=8 / 3)
    optimizer.build(variables)
    optimizer.momentums[0].assign(np.full((2, 2), 0.01))
    optimizer.apply_gradients([(tf.constant(np.array(g, dtype)), v) for g, v in zip((G1, G2), variables, strict=True)])
    expected = [
        [[0.49995075, -0.1985489], [0.09545095, -0.000049]],
        [[0.9999995, -0.4024998], [0.049999975, 0.29899985]],
        [[0.00985, -0.29022], [0.90981, 0.0098]],
        [[0.0001, 0.49996], [0.000005, 0.20003]],
    ]
    for value, right in zip([*variables, *optimizer.momentums], expected, strict=True):
        np.testing.assert_allclose(value, right, atol=tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
def test_is_the_keras_3_one(nesterov):
    """The same model, weights and batches on both roads."""
    import keras

    model = models.small()
    twin = tfmot.to_keras3(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(tfsparse.GSM(0.05, 0.9, 1e-3, 4, nesterov), loss)
    x, y = models.data()
    twin.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    models.fit(models.compiled(model, GSM(0.05, 0.9, 1e-3, 4, nesterov)), epochs=1)
    for mine, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_trains_wrapped_models_to_the_cut_and_saves(tmp_path):
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), scope="global"), GSM(0.05, 0.9, 1e-3, 5))
    models.fit(model, tfmot.Prune(tfsparse.OneShot(start=1.0), sparsity=0.8))
    kernels = models.kernels(model)
    assert sum(np.sum(k == 0) for k in kernels) == sum(round(0.8 * k.size) for k in kernels)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for mine, theirs in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_two_replicas_are_one_device():
    single = models.compiled(models.small(), GSM(0.05, 0.9, 1e-3, 4))
    with two_cpu_strategy().scope():
        mirrored = models.compiled(models.small(), GSM(0.05, 0.9, 1e-3, 4))
    for model in (single, mirrored):
        models.fit(model)
    for mine, theirs in zip(mirrored.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
