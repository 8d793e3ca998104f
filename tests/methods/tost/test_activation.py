import keras
import numpy as np
import pytest
from keras import layers, ops

from tfsparse import SmoothReLU
from tfsparse.backend import derivatives
from tfsparse.backend.precision import dtype_policy
from tfsparse.methods.tost.activation import smooth_relu

X = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], "float32")
VALUES = {
    1.0: [-0.238406, -0.268941, 0.0, 0.731059, 1.761594],
    0.5: [-0.035972, -0.119203, 0.0, 0.880797, 1.964028],
    0.0: [0.0, 0.0, 0.0, 1.0, 2.0],
}
SLOPES = {
    1.0: [-0.090784, 0.072329, 0.5, 0.927671, 1.090784],
    0.5: [-0.052665, -0.090784, 0.5, 1.090784, 1.052665],
    0.0: [0.0, 0.0, 0.0, 1.0, 1.0],
}


@pytest.mark.parametrize("smoothness", VALUES)
def test_golden_values_and_derivatives(smoothness):
    def total(tensors):
        return ops.sum(smooth_relu(tensors[0], ops.convert_to_tensor(smoothness)))

    np.testing.assert_allclose(SmoothReLU(smoothness)(X), VALUES[smoothness], atol=1e-6)
    slopes = derivatives.gradients(total, [ops.convert_to_tensor(X)])[0]
    np.testing.assert_allclose(ops.convert_to_numpy(slopes), SLOPES[smoothness], atol=1e-6)


def test_at_0_it_is_relu_bit_for_bit():
    x = np.random.default_rng(0).normal(size=1000).astype("float32")
    np.testing.assert_array_equal(SmoothReLU(0)(x), np.maximum(x, 0))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("smoothness", [0.0, 1e-6, 1.0])
def test_values_and_derivatives_are_finite(dtype, smoothness):
    x = ops.cast(np.array([-100.0, -1e-6, 0.0, 1e-6, 100.0]), dtype)

    def total(tensors):
        return ops.sum(smooth_relu(tensors[0], ops.convert_to_tensor(smoothness)))

    slopes = derivatives.gradients(total, [x])[0]
    outputs = smooth_relu(x, ops.convert_to_tensor(smoothness))
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    assert np.all(np.isfinite(np.asarray(ops.cast([outputs, slopes], "float32"))))


def test_it_is_saved_and_loaded_as_the_activation_of_a_layer(tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation=SmoothReLU(0.5))])
    model.layers[0].activation.smoothness.assign(0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.layers[0].activation.smoothness) == 0.25
    np.testing.assert_array_equal(loaded(X[None]), model(X[None]))


def test_in_mixed_precision_the_smoothness_is_float32_and_the_output_is_not():
    with dtype_policy("mixed_float16"):
        activation = SmoothReLU()
        assert keras.backend.standardize_dtype(activation(X).dtype) == "float16"
    assert activation.smoothness.dtype == "float32"


@pytest.mark.parametrize("smoothness", [-1, True, "1", float("inf")])
def test_a_smoothness_that_is_none_is_an_error(smoothness):
    with pytest.raises(ValueError, match="expected a number >= 0: 1 is Swish, 0 is ReLU"):
        SmoothReLU(smoothness)
