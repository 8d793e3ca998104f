"""Zeros of a pruned model in later training, above all in quantisation-aware training."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from sklearn.datasets import load_digits
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow_model_optimization import quantization
from tensorflow_model_optimization.experimental import combine

import tfsparse
from tfsparse.export import tflite_file
from tfsparse.tfmot import keep_zeros

layers, quantize = models.layers, quantization.keras
TRAINED = 1400  # of the 1797 digits
OUTPUTS_FIRST = {2: (1, 0), 4: (3, 0, 1, 2)}  # TFLite's order of axes, by rank


def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y


def network():
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Flatten()(x))
    return tf_keras.Model(inputs, layers.Dense(10, name="logits")(x))


def fit(model, *callbacks, epochs=1, examples=TRAINED):
    x, y = digits()
    models.compiled(model, tf_keras.optimizers.Adam(3e-3))
    model.fit(x[:examples], y[:examples], epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model


@pytest.fixture(scope="module")
def pruned():
    """A pruned model. The depthwise kernel is pruned by hand: TFMOT's registry lists no weight of it."""
    model = tfsparse.tfmot.prune_low_magnitude(network())
    fit(model, tfsparse.tfmot.Prune("one_cycle", sparsity=0.8), epochs=5)
    model = tfsparse.tfmot.strip_pruning(model)
    kernel = model.get_layer("depthwise").depthwise_kernel
    kernel.assign(tf.where(tf.abs(kernel) > 0.1, kernel, 0.0))
    return model


def zeros(model):
    return [kernel == 0 for kernel in models.kernels(model)]


def kept(model, before):
    """Return for every kernel whether all weights that were zero are zero."""
    return [bool(np.all(now[then])) for now, then in zip(zeros(model), before, strict=True)]


def quantized(model, scheme=None):
    annotated = quantize.quantize_annotate_model(model)
    return quantize.quantize_apply(annotated, scheme) if scheme else quantize.quantize_apply(annotated)


@pytest.fixture(scope="module")
def trained(pruned):
    return fit(keep_zeros(quantized(pruned)))


def test_zeros_that_the_schemes_of_tfmot_lose_are_kept(pruned, trained):
    """In the order conv, depthwise, hidden, logits; TFMOT's scheme for pruned models loses depthwise kernels."""
    before, preserve = zeros(pruned), combine.Default8BitPrunePreserveQuantizeScheme()
    assert all(0.1 < mask.mean() < 0.9 for mask in before)
    assert kept(fit(quantized(pruned), examples=64), before) == [False] * 4
    assert kept(fit(quantized(pruned, preserve), examples=64), before) == [True, False, True, True]
    assert [now.tolist() for now in zeros(trained)] == [then.tolist() for then in before]


def test_the_int8_file_has_the_same_zeros_and_is_accurate(pruned, trained, tmp_path):
    path, (x, y) = tmp_path / "out.tflite", digits()
    tfsparse.export_tflite(trained, path, "int8", representative=x[:100])
    weights = {array.shape: array for array in integers(path)}
    for mask in zeros(pruned):
        mask = mask.transpose(OUTPUTS_FIRST[mask.ndim])
        assert np.any(weights[mask.shape]) and not np.any(weights[mask.shape][mask])
    assert accuracy(path) > 0.85 > 0.2 > np.bincount(y).max() / len(y)


def integers(path):
    """The int8 weights of a file."""
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    (graph,) = file.subgraphs
    arrays = [tflite_file._array(file, graph.tensors[i]) for i, _ in tflite_file._weights(file, graph)]
    return [array for array in arrays if array.dtype == np.int8]


def accuracy(path):
    x, y = digits()
    with pytest.warns(UserWarning, match="LiteRT"):
        runner = tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")
    name = next(iter(runner.get_input_details()))
    answers = [next(iter(runner(**{name: example[np.newaxis]}).values())) for example in x[TRAINED:]]
    return np.mean(np.argmax(np.concatenate(answers), -1) == y[TRAINED:])


def cut(seed=0):
    """A small model with zeros in its kernels, not quantised."""
    model = models.small(seed)
    for i, kernel in enumerate(models.kernels(model)):
        model.layers[[1, 3, 4][i]].kernel.assign(np.where(np.abs(kernel) > np.median(np.abs(kernel)), kernel, 0))
    return model


def test_keep_zeros_is_called_again_after_loading(tmp_path):
    """TFMOT's scheme for pruned models loses the zeros: it makes its masks before the file's weights are loaded."""
    path, before = tmp_path / "model.h5", zeros(cut())
    with pytest.warns(UserWarning, match="HDF5"):  # what TFMOT quantised cannot be loaded from a .keras file
        quantized(cut(), combine.Default8BitPrunePreserveQuantizeScheme()).save(path)
    with quantize.quantize_scope():
        lost, model = (models.compiled(tf_keras.models.load_model(path, compile=False)) for _ in range(2))
    models.fit(lost)
    assert kept(lost, before) == [False] * 3
    models.fit(keep_zeros(model))
    assert kept(model, before) == [True] * 3


def test_it_works_after_an_earlier_fit():
    before, model = zeros(cut()), models.compiled(cut())
    models.fit(model)
    assert kept(model, before) == [False] * 3
    model.set_weights(cut().get_weights())
    models.fit(keep_zeros(model))
    assert kept(model, before) == [True] * 3


def test_a_second_call_uses_the_zeros_of_that_moment():
    model = models.compiled(keep_zeros(cut(0)))
    model.set_weights(cut(1).get_weights())
    models.fit(keep_zeros(model))
    assert [now.tolist() for now in zeros(model)] == [then.tolist() for then in zeros(cut(1))]


def test_the_users_constraint_is_kept_and_weights_of_zeros_only_are_trained():
    dense = layers.Dense(4, kernel_constraint="non_neg", name="hidden")
    model = tf_keras.Sequential([layers.Input((3,)), dense, layers.Dense(2, kernel_initializer="zeros")])
    dense.kernel.assign([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]])
    model = models.compiled(keep_zeros(model), tf_keras.optimizers.SGD(2.0))
    model.fit(*models.data((3,), classes=2), verbose=0, epochs=2)
    kernel = dense.kernel.numpy()
    assert not np.any(np.diag(kernel)) and np.all(kernel >= 0) and np.any(kernel != 1)
    assert np.all(model.layers[-1].kernel != 0)


def test_models_without_zeros_and_with_wrappers_are_refused():
    with pytest.raises(ValueError, match="No trainable weight of rank >= 2 of .* has zeros to keep: prune the model"):
        keep_zeros(models.small())
    with pytest.raises(ValueError, match=r"keep_zeros\(tfsparse.tfmot.strip_pruning\(model\)\)"):
        keep_zeros(tfsparse.tfmot.prune_low_magnitude(models.small()))
