import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import GSM, testing

WIDE = "float64" if keras.backend.backend() == "tensorflow" else "float32"  # JAX has none by default
W1, G1 = [[0.5, -0.2], [0.1, 0.0]], [[0.1, -0.3], [0.9, 2.0]]
W2, G2 = [[1.0, -0.4], [0.05, 0.3]], [[0.02, 0.5], [-0.1, 0.2]]


def _variables(dtype, *values, name="kernel"):
    return [keras.Variable(np.array(v, dtype), dtype=dtype, name=name) for v in values]


@pytest.mark.parametrize(("dtype", "tolerance"), [(WIDE, 1e-7), ("float32", 1e-5)])
def test_golden_vector(dtype, tolerance):
    """Two entries tie at the third place of eight, so four are active."""
    optimizer = GSM(5e-3, momentum=0.98, weight_decay=1e-4, compression=8 / 3)
    variables = _variables(dtype, W1, W2)
    optimizer.build(variables)
    optimizer.momentums[0].assign(np.full((2, 2), 0.01))
    optimizer.apply([ops.convert_to_tensor(np.array(g, dtype)) for g in (G1, G2)], variables)
    values = [ops.convert_to_numpy(v) for v in (*optimizer.momentums, *variables)]
    expected = [
        [[0.00985, -0.29022], [0.90981, 0.0098]],
        [[0.0001, 0.49996], [0.000005, 0.20003]],
        [[0.49995075, -0.1985489], [0.09545095, -0.000049]],
        [[0.9999995, -0.4024998], [0.049999975, 0.29899985]],
    ]
    for value, right in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, right, atol=tolerance)


def _reference(weights, gradients, steps, rate, momentum, decay, keep, nesterov):
    """Plain NumPy; the last weight is a bias."""
    weights, slots = [w.copy() for w in weights], [np.zeros_like(w) for w in weights]
    for step in range(steps):
        salience = np.concatenate([np.abs(w * g).ravel() for w, g in zip(weights[:-1], gradients[step], strict=False)])
        threshold = np.sort(salience)[-keep]
        for i, (w, g) in enumerate(zip(weights, gradients[step], strict=True)):
            bias = i == len(weights) - 1
            update = g if bias else decay * w + np.where(np.abs(w * g) >= threshold, g, 0)
            slots[i] = momentum * slots[i] + update
            weights[i] = w - rate * (update + momentum * slots[i] if nesterov else slots[i])
    return weights


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("compression", [1, 4])
def test_follows_the_reference(compression, nesterov):
    random = np.random.default_rng(0)
    shapes = [(5, 4), (3, 3, 2, 4), (4,)]
    start = [random.normal(size=s) for s in shapes]
    gradients = [[random.normal(size=s) for s in shapes] for _ in range(6)]
    variables = [*_variables(WIDE, *start[:2]), *_variables(WIDE, start[2], name="bias")]
    optimizer = GSM(0.05, 0.9, 1e-2, compression, nesterov)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(g.astype(WIDE)) for g in step], variables)
    expected = _reference(start, gradients, 6, 0.05, 0.9, 1e-2, int(92 / compression), nesterov)
    for variable, right in zip(variables, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), right, atol=1e-6)


def test_zero_weights_stay_and_passive_ones_decay():
    (variable,) = _variables(WIDE, [[1.0, 0.0], [0.5, 2.0]])
    optimizer = GSM(0.1, momentum=0.5, weight_decay=0.1, compression=4)
    gradient = ops.convert_to_tensor(np.array([[0.0, 9.0], [0.01, 1e-9]], WIDE))
    for _ in range(40):
        optimizer.apply([gradient], [variable])
    value = ops.convert_to_numpy(variable)
    assert value[0, 1] == 0
    np.testing.assert_allclose(value[0, 0], np.exp(-optimizer.decay_exponent(40)), rtol=0.05)


def test_decay_exponent_of_a_schedule():
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([50.0], [0.1, 0.01])
    exponent = GSM(rate, momentum=0.9, weight_decay=1e-2).decay_exponent(100)
    assert exponent == pytest.approx((51 * 0.1 + 49 * 0.01) * 1e-2 / 0.1, rel=0.02)


def _fit(epochs=2):
    model = testing.small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(GSM(0.05, 0.9, 1e-3, compression=4), loss)
    x, y = testing.small_data()
    cut = tfsparse.Prune(tfsparse.OneShot(start=1.0), sparsity=0.75, pruner=tfsparse.Magnitude(scope="global"))
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, callbacks=[cut])
    return model


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
def test_trains_and_is_cut(tmp_path):
    model = _fit()
    assert tfsparse.report(model).sparsity == pytest.approx(0.75, abs=1e-3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.inner_optimizer.get_config() == model.optimizer.inner_optimizer.get_config()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
def test_two_replicas_are_one_device():
    with testing.two_cpu_strategy().scope():
        mirrored = _fit()
    for mine, theirs in zip(mirrored.trainable_variables, _fit().trainable_variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs), atol=1e-5)


def test_errors_say_what_to_write():
    for options, message in (
        ({"momentum": 1.0}, r"momentum=1\.0.*\[0, 1\)"),
        ({"weight_decay": 0}, "weight_decay=0: expected a positive number"),
        ({"compression": 0.1}, r"compression=0\.1.*at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            GSM(**options)


def test_prune_too_warns_of_a_cut_that_comes_too_early():
    with pytest.warns(UserWarning, match="will not be lossless"):
        _fit(epochs=1)
