import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse import GhostSkip, ToST, testing
from tfsparse.backend.precision import dtype_policy
from tfsparse.optimizers import masked_layer
from tfsparse.testing.devices import two_cpu_strategy
from tfsparse.testing.fixtures import assert_same, fit_compiled

X = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype("float32")


def conv(x, filters, name, **options):
    x = layers.Conv2D(filters, 3, use_bias=False, name=name, **{"padding": "same"} | options)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def residual():
    """A block whose branches have other depths with connections than without, inside and outside of a model."""
    inside = keras.Input((3, 3, 4))
    inner = keras.Model(inside, layers.ReLU()(conv(inside, 4, "inner")), name="block")
    inputs = keras.Input((6, 6, 2))
    x = layers.ReLU()(conv(inputs, 4, "first", strides=2))
    x = conv(x, 4, "second") + conv(inputs, 4, "shortcut", strides=2)
    x = layers.Flatten()(conv(inner(x), 3, "valid", padding="valid"))
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="net")


def values(model):
    return {v.path: np.array(ops.convert_to_numpy(v)) for v in model.weights}


def set_share(model, share):
    for connection in masked_layer.training_connections(model):
        connection.share.assign(share)


def randomise(model):
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))


def test_golden_values():
    """Two channels to one, stride 2, moving mean 1, moving variance 3 and a half of the connection."""
    y, x = np.array([[[10.0], [20.0]]], "float32"), np.array([[[1, 2], [9, 9], [3, 4]]], "float32")
    skip = GhostSkip(strides=2)
    skip.build([(None, 2, 1), (None, 3, 2)])
    np.testing.assert_array_equal(ops.convert_to_numpy(skip.skip), np.full((1, 2, 1), 1e-4, "float32"))
    skip.skip.assign([[[2.0], [1.0]]])
    skip.normalization.moving_mean.assign([1.0])
    skip.normalization.moving_variance.assign([3.0])
    skip.normalization.epsilon = 1.0
    np.testing.assert_allclose(skip([y, x]), [[[10 + 3 / 2], [20 + 9 / 2]]], rtol=1e-6)
    skip.share.assign(0.5)
    np.testing.assert_allclose(skip([y, x]), [[[10 + 3 / 4], [20 + 9 / 4]]], rtol=1e-6)
    in_training = 3 / np.sqrt(9 + 1)  # 4 and 10 have the mean 7 and the variance 9
    trained = skip([y, x], training=True)
    np.testing.assert_allclose(trained, [[[10 - in_training / 2], [20 + in_training / 2]]], rtol=1e-6)


def test_connections_go_around_convolutions_with_normalization_and_nothing_else():
    connected = tfsparse.ghost_skips(residual())
    found = {c.name: tuple(c.strides) for c in masked_layer.training_connections(connected)}
    expected = {"first": (2, 2), "second": (1, 1), "shortcut": (2, 2), "inner": (1, 1)}
    assert found == {f"{name}_ghost_skip": strides for name, strides in expected.items()}


def test_without_its_connections_it_is_the_model_before():
    model = residual()
    randomise(model)
    connected = tfsparse.ghost_skips(model)
    assert not np.allclose(connected(X), model(X))
    set_share(connected, 0.0)
    np.testing.assert_array_equal(connected(X), model(X))
    plain = tfsparse.finalize(connected)
    np.testing.assert_array_equal(plain(X), model(X))
    found, expected = values(plain), values(model)  # in another order: branches were longer with connections
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[path], expected[path]) for path in expected)


def test_weights_stay_with_their_layers_where_connections_change_the_order_of_the_layers():
    inputs = keras.Input((6, 6, 2))
    plain = layers.Conv2D(4, 3, padding="same", name="b1")(inputs)
    outputs = conv(inputs, 4, "a") + layers.Conv2D(4, 3, padding="same", name="b2")(plain)
    model = keras.Model(inputs, outputs)
    randomise(model)
    connected = tfsparse.ghost_skips(model)
    assert [v.path for v in connected.weights if "skip" not in v.path] != [v.path for v in model.weights]
    set_share(connected, 0.0)
    np.testing.assert_array_equal(tfsparse.finalize(connected)(X), model(X))


CONVERSIONS = {
    "smooth first": lambda model: tfsparse.ghost_skips(tfsparse.tost(model)),
    "smooth last": lambda model: tfsparse.tost(tfsparse.ghost_skips(model)),
    "thresholds last": lambda model: tfsparse.dst(tfsparse.ghost_skips(model)),
}


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
def test_it_goes_together_with_other_conversions(convert):
    model = residual()
    randomise(model)
    both = convert(model)
    assert len(masked_layer.training_connections(both)) == 4
    set_share(both, 0.0)
    for activation in masked_layer.training_activations(both):
        activation.smoothness.assign(0.0)
    np.testing.assert_allclose(tfsparse.finalize(both)(X), model(X), rtol=1e-5, atol=1e-6)


def compiled(**options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = layers.ReLU(name="relu")(conv(inputs, 4, "conv"))
    x = layers.Dense(4, name="head")(layers.Flatten()(layers.ReLU(name="relu2")(conv(x, 4, "conv2"))))
    model = tfsparse.ghost_skips(tfsparse.tost(keras.Model(inputs, x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    return model


def trained(pruner, epochs=4, initial_epoch=0, model=None, callbacks=(), **options):
    model = model or compiled(**options)
    callbacks = [tfsparse.Prune("constant", 0.75, pruner), ToST(), *callbacks]
    return fit_compiled(model, callbacks, epochs, initial_epoch=initial_epoch)


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}])
@pytest.mark.parametrize("pruner", ["rigl", "random"])
def test_the_end_is_a_plain_sparse_network_with_equal_outputs(pruner, options):
    model, (x, _) = trained(pruner, **options), testing.small_data()
    skip = masked_layer.training_connections(model)[0].skip
    assert np.all(ops.convert_to_numpy(skip) != 0)  # trained, not pruned
    assert np.any(ops.convert_to_numpy(skip) != np.float32(1e-4))
    plain = tfsparse.finalize(model)
    np.testing.assert_allclose(plain.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    report = tfsparse.report(plain)
    assert report.sparsity == pytest.approx(0.75, abs=1 / sum(row.size for row in report.rows))


def test_a_resumed_training_has_the_bits_of_a_straight_one(tmp_path):
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    straight = trained("rigl", callbacks=[save])
    model = keras.models.load_model(tmp_path / "2.keras")
    assert 0 < float(masked_layer.training_connections(model)[0].share) < 1
    assert_same(trained("rigl", model=model, initial_epoch=2), straight, "resumed from a file")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's")
def test_on_two_replicas_the_connections_fade_out_too():
    with two_cpu_strategy().scope():
        model = compiled()
    model, (x, _) = trained("rigl", model=model), testing.small_data()
    plain = tfsparse.finalize(model)
    # outside of the strategy, as each replica has moving statistics of its own
    np.testing.assert_allclose(plain(x), model(x), rtol=1e-5, atol=1e-6)


def test_in_mixed_precision_share_is_float32_and_the_output_is_not():
    with dtype_policy("mixed_float16"):
        connected = tfsparse.ghost_skips(residual())
    assert {keras.backend.standardize_dtype(c.share.dtype) for c in masked_layer.training_connections(connected)} == {
        "float32"
    }
    assert keras.backend.standardize_dtype(connected(X).dtype) == "float16"


def test_before_the_end_there_is_no_plain_model():
    with pytest.raises(ValueError, match="'.*_ghost_skip' still adds 1 of its connection: train to the end with"):
        tfsparse.finalize(tfsparse.ghost_skips(residual()))


def test_a_model_that_cannot_be_converted_is_refused():
    class Net(keras.Model):
        pass

    with pytest.raises(ValueError, match=r"subclassed model, .* write y = tfsparse.GhostSkip\(\)\(\[y, x\]\)"):
        tfsparse.ghost_skips(Net())
    sequential = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3, padding="same")])
    with pytest.raises(ValueError, match=r"is Sequential, .* write model = .*keras.Model\(model.inputs, model.outputs"):
        tfsparse.ghost_skips(sequential)
    with pytest.raises(ValueError, match='Nothing to connect: no convolution with padding="same" of'):
        tfsparse.ghost_skips(keras.Model(sequential.inputs, sequential.outputs))
