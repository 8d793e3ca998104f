import numpy as np
import pytest
import tf_keras
import tf_keras_models as models
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_policy

from tfsparse import tfmot
from tfsparse.tfmot.wrapper import PruneLowMagnitude

layers, stock = models.layers, models.stock
SCHEDULE = tfmot.OneCycle(0.75, end_step=16)


def _names(model):
    return [w.layer.name for w in models.stock_wrappers(model)]


def test_what_has_nothing_to_prune_stays_as_it_is():
    inputs = layers.Input((8, 8, 4))
    x = layers.Normalization(mean=0.0, variance=1.0)(layers.Rescaling(2.0)(inputs))
    x = layers.Conv2D(4, 3, name="conv")(x * 2.0 + 1.0)
    x = layers.Reshape((6, 24))(layers.GroupNormalization(2)(x))
    x = layers.Bidirectional(layers.LSTM(4), name="both")(x)
    x = layers.EinsumDense("ab,bc->ac", output_shape=4, name="einsum")(x)
    plain = tf_keras.Model(inputs, layers.UnitNormalization()(x))
    model = tfmot.prune_low_magnitude(plain, SCHEDULE, scope="layer")
    assert _names(model) == ["conv", "both", "einsum"]
    x, _ = models.data()
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-5)
    models.fit(models.compiled(model))
    assert models.sparsities(model) == pytest.approx([0.75] * 6, abs=0.01)  # both directions: kernel and recurrent


def test_models_inside_models_and_layers_used_twice():
    inner = tf_keras.Sequential([layers.Input((4,)), layers.Dense(4, name="a"), layers.ReLU()], name="inner")
    inputs = layers.Input((4,))
    plain = tf_keras.Model(inputs, layers.Dense(3, name="b")(inner(inner(inputs))))
    model = tfmot.prune_low_magnitude(plain, SCHEDULE, scope="layer")
    assert _names(model) == ["a", "b"]
    models.fit(models.compiled(model))
    assert models.sparsities(model) == [0.75, 0.75]
    assert int(models.stock_wrappers(model)[0].pruning_step) == 16
    assert _names(tfmot.strip_pruning(model).layers[1]) == []


class Own(layers.Layer):
    """Names its weights itself."""

    def build(self, shape):
        self.filters = self.add_weight("filters", (shape[-1], 4))
        self.kernel = self.add_weight("kernel", (shape[-1], 4))

    def call(self, x):
        return x @ self.filters + x @ self.kernel

    def get_prunable_weights(self):
        return [self.filters]


class Block(layers.Layer):
    """Has a layer inside."""

    def build(self, shape):
        self.dense = layers.Dense(4)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(("layer", "weight"), [(Own(), "filters"), (Block(), "kernel")])
def test_layers_of_the_user(layer, weight):
    model = tf_keras.Sequential([layers.Input((4,)), layer])
    model = tfmot.prune_low_magnitude(model, SCHEDULE)
    models.fit(models.compiled(model))
    zeros = {w.name.split("/")[-1]: float(np.mean(w.numpy() == 0)) for w in model.trainable_weights}
    assert zeros[f"{weight}:0"] == 0.75
    assert sum(value == 0.75 for value in zeros.values()) == 1


def test_a_model_without_weights_yet_is_wrapped():
    model = tfmot.prune_low_magnitude(tf_keras.Sequential([layers.Dense(4), layers.Dense(3)]), SCHEDULE)
    models.fit(models.compiled(tf_keras.Sequential([layers.Input((8, 8, 4)), layers.Flatten(), model])))
    assert sum(np.sum(m == 0) for m in models.masks(model)) == round(0.75 * (256 * 4 + 12))


def test_one_layer_and_a_list():
    single = tfmot.prune_low_magnitude(layers.Dense(3), SCHEDULE, input_shape=(4,))
    assert isinstance(single, PruneLowMagnitude)
    many = tfmot.prune_low_magnitude([single, layers.Dense(3), layers.Rescaling(1.0)], SCHEDULE)
    assert many[0] is single
    model = tf_keras.Sequential(many)
    assert len(models.stock_wrappers(model)) == 3  # what is not built may have weights
    models.fit(models.compiled(model))
    assert models.sparsities(model) == [0.75, pytest.approx(7 / 9)]


def test_nothing_to_prune_in_a_layer_is_no_error():
    model = tf_keras.Sequential([layers.Input((4,)), PruneLowMagnitude(layers.Rescaling(3.0)), layers.Dense(2)])
    np.testing.assert_array_equal(model.layers[0](np.ones((1, 4), "float32"), training=True), [[3, 3, 3, 3]])


def test_policy():
    policy = pruning_policy.PruneForLatencyOnXNNPack()
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="valid", name="first")(layers.ZeroPadding2D(1)(inputs))
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(8, 1, name="pointwise")(x))
    model = tfmot.prune_low_magnitude(tf_keras.Model(inputs, x), SCHEDULE, pruning_policy=policy)
    assert _names(model) == ["pointwise"]


def scopes(model):
    return [wrapper.scope for wrapper in models.stock_wrappers(model)]


def test_one_threshold_for_a_model_unless_tfmot_asks_for_one_per_layer():
    decay = stock.PolynomialDecay(0.0, 0.5, 0, 8)
    for schedule, scope in ((None, "global"), (SCHEDULE, "global"), (decay, "layer")):
        assert set(scopes(tfmot.prune_low_magnitude(models.small(), schedule))) == {scope}
    assert scopes(tf_keras.Sequential(tfmot.prune_low_magnitude([layers.Dense(3)], SCHEDULE))) == ["layer"]
    assert set(scopes(tfmot.prune_low_magnitude(stock.prune_low_magnitude(models.small())))) == {"layer"}
    assert set(scopes(tfmot.prune_low_magnitude(models.small(), decay, scope="global"))) == {"global"}


def test_models_that_were_wrapped_apart_do_not_compete():
    first, second = (tfmot.prune_low_magnitude(models.small(seed), SCHEDULE) for seed in (0, 1))
    first.layers[1].layer.kernel.assign(100 * first.layers[1].layer.kernel)
    inputs = layers.Input((8, 8, 4))
    models.fit(models.compiled(tf_keras.Model(inputs, first(inputs) + second(inputs))), tfmot.Prune())
    for model in (first, second):
        assert sum(map(np.sum, (m == 0 for m in models.masks(model)))) == round(0.75 * 1788)


def test_takes_over_wrappers_of_tfmot():
    before = models.compiled(stock.prune_low_magnitude(models.small(), stock.ConstantSparsity(0.5, 0, frequency=1)))
    models.fit(before, stock.UpdatePruningStep(), epochs=1)
    model = tfmot.prune_low_magnitude(before)
    wrappers = [w for w in models.stock_wrappers(model) if w.pruning_vars]
    assert all(type(w) is PruneLowMagnitude for w in wrappers)
    assert [int(w.pruning_step) for w in wrappers] == [8] * 3
    assert wrappers[0].pruning_schedule.target_sparsity == 0.5
    for mine, theirs in zip(models.masks(model), models.masks(before), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert models.sparsities(model)[1] == 0.5  # theirs may be dense after the last step


@pytest.mark.parametrize("strip", [tfmot.strip_pruning, stock.strip_pruning])
def test_strip(strip):
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), SCHEDULE, scope="layer"))
    models.fit(model)
    stripped = strip(model)
    x, _ = models.data()
    np.testing.assert_allclose(stripped(x), model(x), rtol=1e-6)
    assert not models.stock_wrappers(stripped)
    assert [w.name for w in stripped.weights] == [w.name for w in models.small().weights]
    models.fit(models.compiled(stripped), epochs=1)
    assert models.sparsities(stripped)[1] == 0.75


class InAttributes(tf_keras.Model):
    """Wraps its layers where it makes them: in attributes, in a list, in a dict, and in a layer."""

    def __init__(self):
        super().__init__()
        wrapped = tfmot.prune_low_magnitude
        self.first = wrapped(layers.Dense(8, name="first"), SCHEDULE)
        self.hidden = [wrapped(layers.Dense(8, name="hidden"), SCHEDULE)]
        self.heads = {"head": wrapped(layers.Dense(4, name="head"), SCHEDULE)}
        self.block = Inside()

    def call(self, x, training=None):
        x = self.hidden[0](self.first(layers.Flatten()(x), training=training), training=training)
        return self.heads["head"](self.block(x, training=training), training=training)


class Inside(layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = tfmot.prune_low_magnitude(layers.Dense(8, name="inner"), SCHEDULE)

    def call(self, x, training=None):
        return self.inner(x, training=training)


def test_a_subclassed_model_is_stripped_in_place(tmp_path):
    import tfsparse

    model, (x, _) = InAttributes(), models.data()
    model(x[:1])
    models.compiled(model).fit(*models.data(), batch_size=8, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="removed in place. Do that first: model = tfsparse.tfmot.strip_pruning"):
        tfsparse.export(model, tmp_path / "wrapped")
    before, names = model.predict(x, verbose=0), ["first", "hidden", "inner", "head"]
    assert tfmot.strip_pruning(model) is model
    assert not models.stock_wrappers(model)
    assert [layer.name for layer in (model.first, *model.hidden, model.block.inner, model.heads["head"])] == names
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-6)
    assert np.mean(model.first.kernel.numpy() == 0) == pytest.approx(0.75, abs=0.01)
    assert len(model.weights) == 8 and tfsparse.export(model, tmp_path / "plain").is_dir()
    model.fit(*models.data(), verbose=0)
    assert np.mean(model.first.kernel.numpy() == 0) == pytest.approx(0.75, abs=0.01)


class InModels(tf_keras.Model):
    """Holds a wrapped model, and lists in a list."""

    def __init__(self):
        super().__init__()
        self.net = tfmot.prune_low_magnitude(models.small(), SCHEDULE, scope="layer")
        self.heads = [[tfmot.prune_low_magnitude(layers.Dense(3, name="head"), SCHEDULE)]]

    def call(self, x, training=None):
        return self.heads[0][0](self.net(x, training=training), training=training)


def test_models_inside_models_are_stripped_too():
    x, inputs = models.data()[0], layers.Input((8, 8, 4))
    outer = tf_keras.Model(inputs, InModels()(inputs))
    model = models.compiled(outer)
    models.fit(model)
    before, stripped = model.predict(x, verbose=0), tfmot.strip_pruning(model)
    assert not models.stock_wrappers(stripped)
    np.testing.assert_allclose(stripped.predict(x, verbose=0), before, rtol=1e-6)
    assert models.sparsities(stripped) == pytest.approx([0.75] * 4, abs=0.05)


def test_wrappers_of_a_loaded_file_that_rank_all_layers_are_stripped(tmp_path):
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), SCHEDULE, scope="global"))
    models.fit(model)
    model.save(tmp_path / "model.keras")
    stripped = tfmot.strip_pruning(tf_keras.models.load_model(tmp_path / "model.keras"))
    assert sum(int(np.sum(k == 0)) for k in models.kernels(stripped)) == round(0.75 * 1788)


def test_stripping_says_if_the_schedule_did_not_end(tmp_path):
    import tfsparse

    model, early = models.compiled(tfmot.prune_low_magnitude(models.small(), SCHEDULE, scope="layer")), []
    models.fit(model, tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: early.append(model.get_weights())))
    tfmot.strip_pruning(model)
    model.set_weights(early[0])
    for remove in (tfmot.strip_pruning, tfmot.to_keras3, lambda m: tfsparse.export(m, tmp_path / "early")):
        with pytest.warns(UserWarning, match=r"_conv is at step 8 of OneCycle\(sparsity=0.75, .*: 0\.\d+ of"):
            remove(model)


def test_strip_cuts_weights_that_were_written_to():
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), SCHEDULE, scope="layer"))
    models.fit(model)
    model.layers[1].layer.kernel.assign_add(np.ones(model.layers[1].layer.kernel.shape))
    assert models.sparsities(tfmot.strip_pruning(model))[0] == pytest.approx(0.75)


class Subclassed(tf_keras.Model):
    def call(self, x):
        return x


def test_errors_say_what_to_write():
    import keras

    with pytest.raises(ValueError, match="Subclassed 'mine' is a subclassed model"):
        tfmot.prune_low_magnitude(Subclassed(name="mine"), SCHEDULE)
    with pytest.raises(ValueError, match="Nothing to prune: there is no layer with a kernel in model 'plain'"):
        inputs = layers.Input((3,))
        tfmot.prune_low_magnitude(tf_keras.Model(inputs, layers.ReLU()(inputs), name="plain"), SCHEDULE)
    keras3 = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    for function in (tfmot.prune_low_magnitude, tfmot.strip_pruning, tfmot.keep_zeros):
        with pytest.raises(ValueError, match="Keras 3 models need no wrappers"):
            function(keras3)
