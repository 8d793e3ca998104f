"""Failures of TFMOT's own wrapper that users have reported: each is reproduced there, and does not occur with ours."""

import numpy as np
import pytest
import tf_keras
import tf_keras_models as models
from thoroughly import also

from tfsparse import tfmot

layers, stock = models.layers, models.stock
applications = tf_keras.applications


class Stock:
    """TFMOT as its documentation describes it: wrapper and callback."""

    wrap = staticmethod(stock.prune_low_magnitude)
    callback = stock.UpdatePruningStep
    strip = staticmethod(stock.strip_pruning)


class Ours:
    """The three names that a user changes."""

    wrap = staticmethod(tfmot.prune_low_magnitude)
    callback = tfmot.Prune
    strip = staticmethod(tfmot.strip_pruning)


def _trained(road, schedule, *callbacks, epochs=1, **options):
    model = models.compiled(road.wrap(models.small(), schedule, **options))
    models.fit(model, *callbacks, road.callback(), epochs=epochs)
    return model


def short_run_with_the_default_frequency(road, tmp_path):
    model = _trained(road, stock.ConstantSparsity(0.5, 0))
    assert models.sparsities(model) == pytest.approx([0.5] * 3, abs=0.01)


def end_step_that_the_frequency_steps_over(road, tmp_path):
    model = _trained(road, stock.PolynomialDecay(0, 0.9, 0, 30, frequency=16), epochs=4)
    assert models.sparsities(model) == pytest.approx([0.9] * 3, abs=0.005)


def checkpoint_of_a_callback_that_comes_first(road, tmp_path):
    path = str(tmp_path / "weights.h5")
    checkpoint = tf_keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model = _trained(road, stock.ConstantSparsity(0.5, 0, frequency=1), checkpoint)
    stripped = road.strip(model)
    model.load_weights(path)
    assert models.sparsities(stripped) == pytest.approx([0.5] * 3, abs=0.01)


class Interrupt(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            raise KeyboardInterrupt


def interrupt_in_mid_epoch(road, tmp_path):
    model = models.compiled(road.wrap(models.small(), stock.ConstantSparsity(0.5, 0, frequency=1)))
    with pytest.raises(KeyboardInterrupt):
        models.fit(model, road.callback(), Interrupt())
    assert models.sparsities(road.strip(model)) == pytest.approx([0.5] * 3, abs=0.01)


def momentum_that_refills_pruned_weights(road, tmp_path):
    look = models.EveryStep(lambda m: min(models.sparsities(m)))
    _trained(road, stock.ConstantSparsity(0.5, 0, frequency=1), look)
    assert look.seen == pytest.approx([0.5] * 8, abs=0.01)


def n_of_m_lost_in_the_config(road, tmp_path):
    wrapper = road.wrap(layers.Dense(4), stock.ConstantSparsity(0.5, 0), sparsity_m_by_n=(2, 4))
    assert type(wrapper).from_config(wrapper.get_config()).sparsity_m_by_n == (2, 4)


def n_of_m_without_its_schedule(road, tmp_path):
    look = models.EveryStep(lambda m: float(np.mean(models.masks(m)[1] == 0)))
    _trained(road, stock.PolynomialDecay(0, 0.5, 0, 8, power=1, frequency=1), look, sparsity_m_by_n=(2, 4))
    assert look.seen == pytest.approx(np.arange(1, 9) / 16, abs=0.01)


def shared_layer_that_counts_twice(road, tmp_path):
    dense = road.wrap(layers.Dense(4), stock.ConstantSparsity(0.5, 0))
    inputs = layers.Input((4,))
    models.fit(models.compiled(tf_keras.Model(inputs, dense(dense(inputs)))), road.callback(), epochs=1)
    assert int(dense.pruning_step) == 8


def blocks_of_a_convolution(road, tmp_path):
    model = _trained(road, stock.ConstantSparsity(0.5, 0, frequency=1), block_size=(4, 1))
    assert models.sparsities(model)[0] == 0.5


def layers_that_the_registry_does_not_know(road, tmp_path):
    inputs = layers.Input((8, 8, 4))
    x = layers.GroupNormalization(2)(layers.Rescaling(2.0)(inputs) * 0.5)
    x = layers.Bidirectional(layers.GRU(3))(layers.Reshape((8, 32))(x))
    road.wrap(tf_keras.Model(inputs, layers.EinsumDense("ab,bc->ac", output_shape=3)(x)))


FAILURES = [
    short_run_with_the_default_frequency,
    end_step_that_the_frequency_steps_over,
    checkpoint_of_a_callback_that_comes_first,
    interrupt_in_mid_epoch,
    momentum_that_refills_pruned_weights,
    n_of_m_lost_in_the_config,
    n_of_m_without_its_schedule,
    shared_layer_that_counts_twice,
    blocks_of_a_convolution,
    layers_that_the_registry_does_not_know,
]


@pytest.mark.filterwarnings("ignore:.*prunes whole units")  # of convolutions with few channels
@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
def test_the_stock_wrapper_fails_and_ours_does_not(failure, tmp_path):
    with pytest.raises((AssertionError, ValueError, TypeError)):
        failure(Stock, tmp_path)
    failure(Ours, tmp_path)


@pytest.mark.parametrize(
    "family",
    [
        "MobileNetV3Small",
        *also(["RegNetX002", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0", "ResNetRS50", "ConvNeXtTiny"]),
    ],
)
def test_applications_that_the_stock_wrapper_refuses(family):
    """After half of each kernel is pruned, the wrapped model and the stripped one give the same outputs."""
    tf_keras.utils.set_random_seed(0)
    model = getattr(applications, family)(weights=None, input_shape=(64, 64, 3), classes=10)
    with pytest.raises(ValueError, match="supported layer|registry|Prune"):
        stock.prune_low_magnitude(model)
    wrapped = tfmot.prune_low_magnitude(model, scope="layer")
    for wrapper in models.stock_wrappers(wrapped):
        wrapper.pruning_obj.prune_now(0.5)
    masks = models.masks(wrapped)
    assert len(masks) > 20
    assert all(np.sum(m == 0) == round(0.5 * m.size) for m in masks)
    x = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(wrapped(x), tfmot.strip_pruning(wrapped)(x), rtol=1e-5)


@pytest.mark.exhaustive
def test_an_application_trains():
    tf_keras.utils.set_random_seed(0)
    plain = applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=3, minimalistic=True, classifier_activation=None
    )
    model = models.compiled(tfmot.prune_low_magnitude(plain, scope="layer"))
    models.fit(model, tfmot.Prune("linear", sparsity=0.8), epochs=1)
    masks = models.masks(model)
    assert len(masks) > 20
    assert all(np.sum(m == 0) == round(0.8 * m.size) for m in masks)
