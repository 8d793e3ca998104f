import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse.testing import fixtures

LEVELS = (0.0, 0.5, 0.8, 0.9)
PRUNER = tfsparse.Feather()


def nested(pruner=PRUNER, model=None, sparsity=0.9, **options):
    prune = tfsparse.Prune(tfsparse.Nested(LEVELS), sparsity, pruner, **options)
    return fixtures.fit(pruner, model=model, prune=prune)


def kernels(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables if len(v.shape) > 1]


def num_zeros(model):
    return sum(int(np.sum(k == 0)) for k in kernels(model))


@pytest.fixture(scope="module")
def model():
    return nested()


SPARSITIES = np.sort(np.random.default_rng(0).uniform(0, 0.9, 20))


def test_counts_are_exact_and_masks_nested_at_any_sparsity(model):
    size, alive = sum(k.size for k in kernels(model)), None
    untrained = num_zeros(tfsparse.at(model, 0.0))  # pruned in the first part, and without a gradient since
    for sparsity in [*map(float, SPARSITIES), 0.9]:
        plain = tfsparse.at(model, sparsity)
        assert num_zeros(plain) == max(round(sparsity * size), untrained)
        now = [k != 0 for k in kernels(plain)]
        assert alive is None or not any(np.any(b & ~a) for a, b in zip(alive, now, strict=True))
        alive = now


def test_values_are_the_pruners_forward_of_the_dense_weights(model):
    dense = fixtures.to_arrays(model.optimizer.mask_state.storage.dense_weights)
    cut = kernels(tfsparse.at(model, 0.6))
    threshold = max(np.max(np.abs(d[c == 0])) for d, c in zip(dense, cut, strict=True))
    for d, c in zip(dense, cut, strict=True):
        expected = np.where(c == 0, 0, np.sign(d) * np.cbrt(np.maximum(np.abs(d) ** 3 - threshold**3, 0)))
        np.testing.assert_allclose(c, expected, rtol=1e-3, atol=1e-5)
    assert all(np.array_equal(d, c) for d, c in zip(dense, kernels(tfsparse.at(model, 0)), strict=True))


def test_the_highest_level_is_the_trained_model_which_does_not_change(model):
    before = fixtures.to_arrays([*model.variables, *model.optimizer.variables])
    tfsparse.at(model, 0.3)
    after = fixtures.to_arrays([*model.variables, *model.optimizer.variables])
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
    for value, trained in zip(kernels(tfsparse.at(model, 0.9)), kernels(model), strict=True):
        np.testing.assert_allclose(value, trained, rtol=1e-5, atol=1e-6)  # training computes it compiled


def test_the_copy_is_a_plain_compiled_model(model):
    plain, (x, y) = tfsparse.at(model, 0.5), fixtures.small_data()
    assert type(plain.optimizer) is keras.optimizers.SGD
    assert plain.optimizer.momentum == 0.9
    assert [v.name for v in plain.variables] == [v.name for v in model.variables]
    assert plain.evaluate(x, y, verbose=0) > 0
    assert not any(a is b for a, b in zip(plain.variables, model.variables, strict=True))


def own_loss(y_true, y_pred):
    return ops.mean(ops.square(y_pred))


def test_a_loss_that_keras_cannot_rebuild_is_an_error_that_says_what_to_write():
    plain = fixtures.small_model()
    plain.compile("sgd", own_loss)
    fixtures.fit_compiled(plain, [tfsparse.Prune(tfsparse.Nested(LEVELS), 0.9, PRUNER)], epochs=1)
    with pytest.raises(ValueError, match=r"cannot be compiled again .*Put @keras.saving.register_keras_serializable"):
        tfsparse.at(plain, 0.5)


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.stack = [layers.Flatten(), layers.Dense(8), layers.Dense(4)]

    def call(self, x):
        for layer in self.stack:
            x = layer(x)
        return x


def test_a_subclassed_model_is_copied():
    keras.utils.set_random_seed(0)
    (x, _), model = fixtures.small_data(), Subclassed()
    model(x[:1])
    np.testing.assert_allclose(tfsparse.at(nested(model=model), 0.9)(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_saved_model_has_all_sparsities(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for sparsity in (0.0, 0.7, 0.9):
        pairs = zip(kernels(tfsparse.at(loaded, sparsity)), kernels(tfsparse.at(model, sparsity)), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_each_layer_reaches_the_sparsity_with_a_layer_scope():
    model = nested(tfsparse.Feather(scope="layer"))
    for kernel in kernels(tfsparse.at(model, 0.7)):
        assert np.sum(kernel == 0) == round(0.7 * kernel.size)


def test_a_layer_with_a_target_of_its_own_keeps_its_share():
    model = fixtures.small_model()
    model = nested(model=model, sparsities={"hidden": 0.45}, exclude="head")
    conv, hidden, head = kernels(tfsparse.at(model, 0.6))
    assert [np.sum(k == 0) for k in (conv, hidden, head)] == [round(0.6 * 36), 153, 0]  # 0.3 of 512


def test_batch_normalization_is_measured_again_on_data():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((6, 6, 1)),
        layers.Flatten(),
        layers.Dense(8),
        layers.BatchNormalization(),
        layers.Dense(4),
    ])
    nested(model=model)
    x, _ = fixtures.small_data()
    plain = tfsparse.at(model, 0.8, data=x)
    hidden = x.reshape(len(x), -1) @ kernels(plain)[0] + ops.convert_to_numpy(plain.layers[1].bias)
    np.testing.assert_allclose(plain.layers[2].moving_mean, hidden.mean(axis=0), rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match=r"Measure those of this one: tfsparse.at\(model, 0.8, data="):
        tfsparse.at(model, 0.8)


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [(0.95, "above the highest level that was trained: write at most 0.9"), (1.0, "fraction of zeros"), (90, "0.9")],
)
def test_a_sparsity_that_was_not_trained_is_an_error(model, sparsity, message):
    with pytest.raises(ValueError, match=message):
        tfsparse.at(model, sparsity)


def test_a_model_with_one_sparsity_is_an_error():
    model = fixtures.fit(tfsparse.Feather())
    with pytest.raises(ValueError, match=r"trained with OneCycle\(.*so it has one sparsity: train it with callbacks="):
        tfsparse.at(model, 0.3)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="without a SparseOptimizer, so it has one sparsity"):
        tfsparse.at(model, 0.3)
    with pytest.raises(TypeError, match="Expected a Keras 3 model"):
        tfsparse.at("model.keras", 0.3)
