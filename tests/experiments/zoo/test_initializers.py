"""What PyTorch would draw, by its bounds and deviations; and nothing changed where it is not asked for."""

import keras
import numpy as np
import pytest

from tfsparse.experiments.zoo import initializers, models

MNIST = (28, 28, 1)


def weights(name, initializer, seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = models.build(name, MNIST, 10, initializer=initializer, **options)
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def assert_uniform(values, bound):
    """U(-b, b) has its extremes near the bounds and a deviation of b / sqrt(3)."""
    assert np.abs(values).max() <= bound
    if values.size >= 400:
        assert np.abs(values).max() > 0.98 * bound
        np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.1)
        np.testing.assert_allclose(values.mean(), 0, atol=4 * bound / np.sqrt(3 * values.size))
    assert values.std() > bound / 4  # nothing is left at zero


@pytest.mark.parametrize(
    ("name", "fans"),
    [
        ("mlp", {"dense1": 784, "dense2": 256, "logits": 128}),
        ("lenet_300_100", {"dense1": 784, "dense2": 300, "logits": 100}),
        ("lenet_5", {"conv1": 25, "conv2": 500, "dense1": 800, "logits": 500}),
    ],
)
def test_torch_draws_kernels_and_biases_by_fan_in(name, fans):
    drawn = weights(name, "torch")
    assert set(drawn) == {f"{layer}/{part}" for layer in fans for part in ("kernel", "bias")}
    for layer, fan_in in fans.items():
        for part in ("kernel", "bias"):
            assert_uniform(drawn[f"{layer}/{part}"], fan_in**-0.5)


def test_torch_draws_lstms_by_their_units_and_leaves_biases_zero():
    drawn = weights("lstm", "torch", units=64)
    for layer in ("lstm1", "lstm2"):
        for part in ("kernel", "recurrent_kernel"):
            assert_uniform(drawn.pop(f"{layer}/lstm_cell/{part}"), 64**-0.5)
        assert np.all(drawn.pop(f"{layer}/lstm_cell/bias") == 0)
    for part in ("kernel", "bias"):
        assert_uniform(drawn.pop(f"logits/{part}"), 64**-0.5)
    assert not drawn


def test_layers_of_one_shape_begin_differently():
    drawn = weights("mlp", "torch", widths=(30, 30, 30))
    assert not np.array_equal(drawn["dense2/kernel"], drawn["dense3/kernel"])


def test_keras_is_the_default_and_what_it_was():
    keras.utils.set_random_seed(3)
    plain = models.build("lenet_5", MNIST, 10)
    for value, other in zip(weights("lenet_5", "keras", seed=3).values(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    assert plain.get_layer("conv1").kernel_initializer.get_config() == keras.initializers.GlorotUniform().get_config()
    assert initializers.dense("keras", 5) == initializers.recurrent("keras", 5) == {}
