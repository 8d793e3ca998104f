"""Round trips between the two Kerases: outputs, weights, names and masks."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity import keras as stock
from thoroughly import also

import tfsparse
from tfsparse import tfmot
from tfsparse.optimizers import compiled_model
from tfsparse.tfmot import convert, kernels
from tfsparse.tfmot.convert import from_keras3, to_keras3

L = tf_keras.layers
IMAGE, SEQUENCE, VECTOR = (8, 8, 4), (6, 4), (6,)

PER_LAYER = tfsparse.Magnitude(scope="layer")


def _layers(*cases):
    return [pytest.param(shape, make, id=name) for name, shape, make in cases]


ONE_LAYER = _layers(
    ("dense", VECTOR, lambda k: [k.Dense(3, "tanh", kernel_regularizer="l2", bias_constraint="non_neg")]),
    ("einsum", SEQUENCE, lambda k: [k.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")]),
    ("conv1d", SEQUENCE, lambda k: [k.Conv1D(3, 3, padding="causal", dilation_rate=2), k.Conv1DTranspose(2, 3)]),
    ("conv2d", IMAGE, lambda k: [k.Conv2D(6, 3, 2, padding="same", activation="relu", groups=2)]),
    ("conv2d_transpose", IMAGE, lambda k: [k.Conv2DTranspose(3, 3, 2, output_padding=1)]),
    ("conv3d", (4, 4, 4, 2), lambda k: [k.Conv3D(3, 2), k.Conv3DTranspose(2, 2)]),
    ("depthwise", IMAGE, lambda k: [k.DepthwiseConv2D(3, depth_multiplier=2)]),
    ("depthwise1d", SEQUENCE, lambda k: [k.DepthwiseConv1D(3)]),
    ("separable", IMAGE, lambda k: [k.SeparableConv2D(3, 3)]),
    ("separable1d", SEQUENCE, lambda k: [k.SeparableConv1D(3, 3)]),
    ("embedding", (5,), lambda k: [k.Embedding(11, 4), k.GlobalAveragePooling1D()]),
    ("masking", SEQUENCE, lambda k: [k.Masking(0.0), k.SimpleRNN(3)]),
    ("lstm", SEQUENCE, lambda k: [k.LSTM(3, return_sequences=True, go_backwards=True), k.LSTM(2, dropout=0.1)]),
    ("gru", SEQUENCE, lambda k: [k.GRU(3, reset_after=False)]),
    ("rnn", SEQUENCE, lambda k: [k.RNN([k.LSTMCell(3), k.GRUCell(2)])]),
    ("conv_lstm", (3, 6, 6, 2), lambda k: [k.ConvLSTM2D(2, 3, recurrent_activation="sigmoid")]),
    ("bidirectional", SEQUENCE, lambda k: [k.Bidirectional(k.LSTM(3, return_sequences=True), merge_mode="sum")]),
    ("two_directions", SEQUENCE, lambda k: [k.Bidirectional(k.GRU(3), backward_layer=k.LSTM(2, go_backwards=True))]),
    ("time_distributed", (3, *IMAGE), lambda k: [k.TimeDistributed(k.Conv2D(2, 3)), k.TimeDistributed(k.Flatten())]),
    ("batch_norm", IMAGE, lambda k: [k.BatchNormalization(axis=-1, momentum=0.8), k.BatchNormalization(scale=False)]),
    ("frozen_norm", IMAGE, lambda k: [k.BatchNormalization(trainable=False)]),
    ("layer_norm", IMAGE, lambda k: [k.LayerNormalization([1, 2]), k.LayerNormalization(center=False)]),
    ("group_norm", IMAGE, lambda k: [k.GroupNormalization(2), k.UnitNormalization()]),
    ("spectral", VECTOR, lambda k: [k.SpectralNormalization(k.Dense(3))]),
    ("rescaling", IMAGE, lambda k: [k.Rescaling(1 / 127.5, offset=-1), k.Resizing(5, 7), k.CenterCrop(3, 3)]),
    ("given_statistics", VECTOR, lambda k: [k.Normalization(mean=[1.0] * 6, variance=[2.0] * 6)]),
    ("pooling", IMAGE, lambda k: [k.MaxPooling2D(2, padding="same"), k.AveragePooling2D(2), k.GlobalMaxPooling2D()]),
    ("pooling1d", SEQUENCE, lambda k: [k.AveragePooling1D(2), k.MaxPooling1D(2), k.GlobalAveragePooling1D()]),
    ("global", IMAGE, lambda k: [k.GlobalAveragePooling2D(keepdims=True)]),
    ("padding", IMAGE, lambda k: [k.ZeroPadding2D(((1, 2), (0, 3))), k.Cropping2D(1)]),
    ("padding1d", SEQUENCE, lambda k: [k.ZeroPadding1D(2), k.Cropping1D(1), k.UpSampling1D(2)]),
    ("upsampling", IMAGE, lambda k: [k.UpSampling2D(2, interpolation="bilinear"), k.UpSampling2D((1, 2))]),
    ("shapes", (6, 4), lambda k: [k.Permute((2, 1)), k.Reshape((3, -1)), k.Flatten(), k.RepeatVector(2)]),
    ("relu", VECTOR, lambda k: [k.ReLU(6.0, negative_slope=0.1), k.ELU(0.5), k.Softmax()]),
    ("activations", IMAGE, lambda k: [k.PReLU(shared_axes=[1, 2]), k.Activation("gelu"), k.Activation("swish")]),
    ("dropouts", IMAGE, lambda k: [k.Dropout(0.2, seed=1), k.SpatialDropout2D(0.2), k.GaussianDropout(0.1)]),
    ("noise", VECTOR, lambda k: [k.AlphaDropout(0.1), k.GaussianNoise(0.1), k.ActivityRegularization(0.1)]),
    ("augmentation", IMAGE, lambda k: [k.RandomFlip(), k.RandomRotation(0.1), k.RandomZoom(0.1)]),
    ("encoding", (1,), lambda k: [k.CategoryEncoding(11, output_mode="one_hot")]),
    ("half", VECTOR, lambda k: [k.Dense(3, dtype="mixed_bfloat16"), k.Dense(3, dtype="float32")]),
)


def _data(model, seed=0):
    random = np.random.default_rng(seed)

    def one(tensor):
        shape = (3, *tensor.shape[1:])
        whole = tensor.dtype in ("int32", tf.int32)
        return random.integers(0, 3, shape) if whole else random.normal(size=shape).astype("float32")

    return [one(tensor) for tensor in model.inputs]


def _call(model, data):
    single = isinstance(model, (keras.Sequential, tf_keras.Sequential))
    structure = model.inputs[0] if single else model.input
    packed = tf.nest.pack_sequence_as(structure, [tf.constant(x) for x in data])
    return [np.asarray(tf.cast(y, tf.float32)) for y in tf.nest.flatten(model(packed, training=False))]


def _randomised(model):
    """Set all weights to random numbers, also moving statistics and biases."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        if "float" in str(weight.dtype):
            weight.assign(np.abs(random.normal(size=weight.shape)) + 0.1)
    for layer in model.layers:
        if isinstance(layer, (L.Normalization, keras.layers.Normalization)) and layer.weights:
            layer.finalize_state()
    return model


def _assert_same_outputs(old, new, tolerance=1e-5):
    data = _data(old)
    expected, found = _call(old, data), _call(new, data)
    assert len(expected) == len(found)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def _assert_round_trip(model, there, back):
    _randomised(model)
    other = there(model)
    assert [layer.name for layer in _named(other)] == [layer.name for layer in _named(model)]
    assert other.name == model.name
    _assert_same_outputs(model, other)
    again = back(other)
    assert type(again) is type(model)
    weights = {id(w): w.numpy() for w in convert.own_weights(model)}
    returned = [w.numpy() for w in convert.own_weights(again)]
    assert sorted(w.shape for w in weights.values()) == sorted(w.shape for w in returned)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    return other


def _named(model):
    return [layer for layer in model.layers if "lambda" not in type(layer).__name__.lower()]


@pytest.mark.parametrize(("shape", "make"), ONE_LAYER)
def test_layers_survive_a_round_trip(shape, make):
    dtype = "int32" if len(shape) == 1 and shape != VECTOR else "float32"
    model = tf_keras.Sequential([tf_keras.Input(shape, dtype=dtype), *make(L)])
    other = _assert_round_trip(model, to_keras3, from_keras3)
    assert isinstance(other, keras.Sequential)


# ---- graphs: each is written once and built in either Keras ---------------------------------------------------------


def _nested_and_shared(k):
    shared = k.layers.Dense(4, name="shared")
    a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
    inner_in = k.Input((4,))
    inner = k.Model(inner_in, [shared(inner_in), k.layers.Dense(2)(inner_in)], name="inner")
    tail = k.Sequential([k.Input((4,)), k.layers.Dense(5), k.layers.BatchNormalization()], name="tail")
    first, second = inner(a)
    x = k.layers.Concatenate()([shared(shared(b)), tail(first), second])
    return k.Model([a, b], [k.layers.Dense(2, name="one")(x), tail(inner(b)[0])], name="outer")


def _dict_of_tensors(k):
    inputs = {"x": k.Input((4,), name="x"), "y": k.Input((4,), name="y")}
    total = k.layers.Add()([inputs["x"], inputs["y"]])
    product = k.layers.Dot(axes=1)([k.layers.Subtract()([inputs["y"], total]), inputs["x"]])
    return k.Model(inputs, {"sum": k.layers.Dense(2)(total), "product": product})


def _merging(k):
    a, b = k.Input((4,)), k.Input((4,))
    kinds = [k.layers.Maximum, k.layers.Minimum, k.layers.Multiply, k.layers.Average, k.layers.Add]
    return k.Model([a, b], [k.layers.Dense(3)(kind()([a, b])) for kind in kinds])


def _attention(k):
    a, b = k.Input((5, 6)), k.Input((3, 6))
    x = k.layers.MultiHeadAttention(2, 3, value_dim=4, name="heads")(a, value=b)
    y, scores = k.layers.MultiHeadAttention(2, 3)(query=x, value=x, key=a, return_attention_scores=True)
    z = k.layers.Attention(use_scale=True, score_mode="concat")([y, b])
    return k.Model([a, b], [k.layers.AdditiveAttention()([z, b]), scores])


def _causal(k):
    a = k.Input((5, 6))
    x = k.layers.MultiHeadAttention(2, 3)(a, a, use_causal_mask=True)
    return k.Model(a, k.layers.Attention()([x, a], use_causal_mask=True))


def _masked(k):
    tokens = k.Input((5,), dtype="int32")
    x = k.layers.Embedding(3, 6, mask_zero=True)(tokens)
    y = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(k.layers.Dropout(0.1)(x))
    z = k.layers.MultiHeadAttention(2, 3)(y, y)
    return k.Model(tokens, k.layers.GlobalAveragePooling1D()(k.layers.Add()([y, z])))


def _states(k):
    a, b = k.Input((5, 6)), k.Input((4, 6))
    _, *states = k.layers.LSTM(3, return_state=True)(a)
    _, *both = k.layers.Bidirectional(k.layers.GRU(3, return_state=True))(a)
    x = k.layers.LSTM(3)(b, initial_state=states)
    return k.Model([a, b], [x, k.layers.Bidirectional(k.layers.GRU(3))(b, initial_state=both)])


def _model_in_time(k):
    inner = k.Sequential([k.Input((6, 6, 2)), k.layers.Conv2D(3, 3), k.layers.Flatten()])
    frames = k.Input((3, 6, 6, 2))
    return k.Model(frames, k.layers.GRU(2)(k.layers.TimeDistributed(inner)(frames)))


def _arithmetic(k):
    a, b = k.Input((4, 6)), k.Input((4, 6))
    x = (2.0 - a) * b / 3.0 + a - (-b) ** 2
    return k.Model([a, b], [k.layers.Dense(2)(x[:, 1:, ::2]), x[:, 0], k.layers.Dense(2)(1.0 / (x * x + 1.0))])


def _frozen(k):
    base = k.Sequential([k.Input((4,)), k.layers.Dense(3), k.layers.BatchNormalization(), k.layers.Dense(2)])
    base.trainable = False
    x = k.Input((4,))
    last = k.layers.Dense(2, trainable=False, name="last")
    return k.Model(x, last(k.layers.Dense(3)(base(x))))


GRAPHS = [
    *[_nested_and_shared, _dict_of_tensors, _merging, _attention, _causal, _masked, _states, _model_in_time],
    *[_arithmetic, _frozen],
]


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__.strip("_"))
@pytest.mark.parametrize("k", [tf_keras, keras], ids=["from_tf_keras", "from_keras"])
def test_graphs_survive_a_round_trip(make, k):
    there, back = (to_keras3, from_keras3) if k is tf_keras else (from_keras3, to_keras3)
    model = make(k)
    other = _assert_round_trip(model, there, back)
    assert len(other.trainable_weights) == len(model.trainable_weights)
    assert [layer.trainable for layer in _named(other)] == [layer.trainable for layer in _named(model)]


def test_a_shared_layer_stays_one():
    model = to_keras3(_nested_and_shared(tf_keras))
    assert model.get_layer("shared") is model.get_layer("inner").get_layer("shared")
    assert len(model.get_layer("shared")._inbound_nodes) == 3


def test_functions_of_tensorflow():
    a, b = tf_keras.Input((4, 6)), tf_keras.Input((4, 6))
    x = tf.concat([tf.nn.relu6(a), tf.math.maximum(b, 0.1)], axis=-1)
    y = tf.reduce_mean(tf.reshape(x, (-1, 6, 8)), axis=[1], keepdims=True)
    z = tf.expand_dims(tf.transpose(tf.cast(x, "float32"), (0, 2, 1)), -1)
    model = tf_keras.Model([a, b], [x, y, z, tf.reduce_max(z, 1), tf.add(a, y=b), tf.sqrt(tf.abs(a) + 1.0)])
    _assert_same_outputs(model, to_keras3(model))


def test_adapted_statistics():
    for k, convert_ in ((tf_keras, to_keras3), (keras, from_keras3)):
        layer = k.layers.Normalization()
        layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 6)).astype("float32"))
        model = k.Sequential([k.Input((6,)), layer, k.layers.Dense(2)])
        _assert_same_outputs(model, convert_(model))


def test_training_flags_are_kept_with_a_warning():
    x = tf_keras.Input((100,))
    model = tf_keras.Model(x, L.Dropout(0.5, name="always")(x, training=True))
    with pytest.warns(UserWarning, match="always is called with training=True. Keras 3 keeps that where the model"):
        converted = to_keras3(model)
    ones = np.ones((1, 100), "float32")
    assert 20 < np.sum(model(ones).numpy() == 0) < 80
    assert 20 < np.sum(converted(ones).numpy() == 0) < 80


@pytest.mark.parametrize("name", ["MobileNetV2", *also(["MobileNetV3Small", "ResNet50"])])
def test_applications(name):
    options = {"alpha": 0.35} if name == "MobileNetV2" else {}
    model = getattr(tf_keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=5, **options)
    random = np.random.default_rng(0)
    model.set_weights([w if w.ndim > 1 else w + 0.1 * random.random(w.shape) for w in model.get_weights()])
    _assert_same_outputs(model, to_keras3(model), tolerance=1e-4)


# ---- masks ----------------------------------------------------------------------------------------------------------


def _wrapped(wrap, sparsities=(0.5, 0.8)):
    """A model whose masks, but not weights, are 50 % and 80 % zeros; its last layer has no wrapper."""
    tf_keras.utils.set_random_seed(0)
    first, second = (stock.ConstantSparsity(s, 0) for s in sparsities)
    inputs = tf_keras.Input((8, 8, 4))
    x = wrap(L.Conv2D(6, 3, activation="relu", name="conv"), pruning_schedule=first)(inputs)
    x = wrap(L.Dense(10, activation="relu", name="hidden"), pruning_schedule=second)(L.Flatten()(x))
    model = tf_keras.Model(inputs, L.Dense(3, name="logits")(x))
    random = np.random.default_rng(3)
    for wrapper, sparsity in zip(kernels.wrappers(model), sparsities, strict=True):
        for weight, mask, _ in wrapper.pruning_vars:
            zeros = random.permutation(mask.shape.num_elements()) < round(sparsity * mask.shape.num_elements())
            mask.assign(1.0 - zeros.reshape(mask.shape))
            weight.assign(weight + np.sign(weight) * 0.01)
    return model


def _masks(model):
    return {w.layer.name: m.numpy() for w in kernels.wrappers(model) for _, m, _ in w.pruning_vars}


def _zeros(model):
    return {layer: model.get_layer(layer).kernel.numpy() == 0 for layer in ("conv", "hidden", "logits")}


@pytest.mark.parametrize("wrap", [stock.prune_low_magnitude, tfmot.prune_low_magnitude], ids=["stock", "ours"])
def test_wrappers_vanish_and_leave_their_masks(wrap):
    model = _wrapped(wrap)
    converted = to_keras3(model)
    assert [type(layer) for layer in converted.layers[1::2]] == [keras.layers.Conv2D, keras.layers.Dense]
    masks = _masks(model)
    for name, mask in masks.items():
        wrapper = model.get_layer(f"prune_low_magnitude_{name}")
        expected = wrapper.layer.kernel.numpy() * mask
        np.testing.assert_array_equal(converted.get_layer(name).kernel.numpy(), expected)
        np.testing.assert_array_equal(converted.get_layer(name).bias.numpy(), wrapper.layer.bias.numpy())
    assert not hasattr(converted, "optimizer") or converted.optimizer is None
    _assert_same_outputs(tfmot.strip_pruning(tfmot.prune_low_magnitude(model)), converted)


def _train(model, epochs=3):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 8, 8, 4)).astype("float32"), random.integers(0, 3, 16)
    model.fit(x, y, batch_size=4, epochs=epochs, verbose=0)


def test_the_optimizer_keeps_the_masks():
    model = _wrapped(tfmot.prune_low_magnitude)
    masks = _masks(model)
    converted = to_keras3(model, keras.optimizers.SGD(0.5, momentum=0.9))
    optimizer = compiled_model.sparse_optimizer(converted)
    assert {v.path.split("/")[-2] for v in optimizer.pruned_variables} == {"conv", "hidden"}
    targets = {row.weight.split("/")[-2]: row.target for row in tfsparse.report(converted).rows}
    assert targets == {"conv": 0.5, "hidden": 0.8, "logits": None}
    before = converted.get_layer("hidden").kernel.numpy()
    converted.compile(converted.optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    _train(converted)
    after = _zeros(converted)
    assert np.any(before != converted.get_layer("hidden").kernel.numpy())
    for name, mask in masks.items():
        np.testing.assert_array_equal(after[name], mask == 0)
        np.testing.assert_array_equal(optimizer.mask(converted.get_layer(name).kernel).numpy(), mask)
    assert not after["logits"].any()


def test_living_weights_that_are_zero_stay_living():
    model = _wrapped(tfmot.prune_low_magnitude)
    masks, kernel = _masks(model), model.layers[3].layer.kernel
    kernel.assign(tf.where(tf.random.uniform(kernel.shape, seed=1) < 0.5, 0.0, kernel))
    converted = to_keras3(model, keras.optimizers.SGD(0.0))
    converted.compile(converted.optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    _train(converted, epochs=1)
    optimizer = compiled_model.sparse_optimizer(converted)
    for name, mask in masks.items():
        np.testing.assert_array_equal(optimizer.mask(converted.get_layer(name).kernel).numpy(), mask)


def test_a_saved_and_loaded_model_keeps_its_masks(tmp_path):
    converted = to_keras3(_wrapped(stock.prune_low_magnitude), "adam")
    converted.compile(converted.optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = _zeros(converted)
    converted.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    _train(loaded, epochs=1)
    for name, zeros in _zeros(loaded).items():
        np.testing.assert_array_equal(zeros, before[name])


def test_a_new_cycle_begins_from_the_masks():
    converted = to_keras3(_wrapped(tfmot.prune_low_magnitude), "sgd")
    converted.compile(converted.optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.ones((8, 8, 8, 4), "float32"), np.zeros(8, int)
    prune = tfsparse.Prune("linear", 0.9, PER_LAYER)
    converted.fit(x, y, epochs=4, verbose=0, callbacks=[prune])
    assert all(row.sparsity == pytest.approx(0.9, abs=0.01) for row in tfsparse.report(converted).rows[:2])


def test_without_masks_the_optimizer_is_the_plain_one():
    model = to_keras3(tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(2)]), "adam")
    assert type(model.optimizer) is keras.optimizers.Adam


@functools.cache
def _pruned_in_keras3():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.SeparableConv2D(6, 3, name="separable")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Dense(6, activation="relu", name="hidden")(keras.layers.Reshape((4, 6))(x))
    x = keras.layers.MultiHeadAttention(2, 3, name="heads")(x, x)
    x = keras.layers.GRU(5, name="gru")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    optimizer = tfsparse.SparseOptimizer(keras.optimizers.SGD(0.1), "one_cycle", 0.6, PER_LAYER, total_steps=4)
    optimizer.exclude_from_pruning([model.get_layer("logits")])
    optimizer.set_sparsity(model.get_layer("gru").cell.recurrent_kernel, 0.2)  # two sparsities in one layer
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    _train(model, epochs=1)
    return model


def test_from_keras3_wraps_what_has_masks():
    model = _pruned_in_keras3()
    optimizer = compiled_model.sparse_optimizer(model)
    converted = from_keras3(model)
    found = [(w, m) for wrapper in kernels.wrappers(converted) for w, m, _ in wrapper.pruning_vars]
    assert len(found) == len(optimizer.masks) == 11
    assert all(isinstance(w, tfmot.PruneLowMagnitude) for w in kernels.wrappers(converted))
    for variable, mask, (weight, own) in zip(optimizer.pruned_variables, optimizer.masks, found, strict=True):
        np.testing.assert_array_equal(mask.numpy(), own.numpy(), err_msg=variable.path)
        np.testing.assert_array_equal(variable.numpy(), weight.numpy(), err_msg=variable.path)
    _assert_same_outputs(model, converted)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    converted.compile(tf_keras.optimizers.SGD(0.5), loss, run_eagerly=True)
    before = [w.numpy() for w, _ in found]
    _train(converted, epochs=1)
    for (weight, own), value, mask in zip(found, before, optimizer.masks, strict=True):
        np.testing.assert_array_equal(weight.numpy() == 0, mask.numpy() == 0)
        np.testing.assert_array_equal(own.numpy(), mask.numpy())
        assert np.any(weight.numpy() != value)


def test_masks_survive_a_round_trip():
    model = _pruned_in_keras3()
    again = to_keras3(from_keras3(model), "sgd")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    first, second = compiled_model.sparse_optimizer(model), compiled_model.sparse_optimizer(again)
    for a, b in zip(first.masks, second.masks, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(first.target.numpy(), second.target.numpy())


# ---- refusals -------------------------------------------------------------------------------------------------------


class Scale(tf_keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


class Dense(tf_keras.layers.Dense):
    """Not the layer of this name."""


def test_everything_that_cannot_be_converted_is_named_at_once():
    inputs = tf_keras.Input((4,))
    inner = tf_keras.Sequential([tf_keras.Input((4,)), L.ThresholdedReLU(name="thresholded")], name="inner")
    x = Scale(name="scale")(inputs)
    x = L.Lambda(tf.nn.relu, name="function")(x)
    x = Dense(4, name="impostor")(L.Dense(4, name="fine")(tf.math.cumsum(x, axis=1)))
    x = L.Activation("hard_sigmoid", name="hard")(inner(x))
    model = tf_keras.Model(inputs, L.Dense(4, activation=lambda v: v * 2, name="own")(x), name="odd")
    with pytest.raises(ValueError) as raised:
        to_keras3(model)
    message = str(raised.value)
    assert message.startswith("'odd' cannot be converted from tf_keras to keras. Replace these layers")
    lines = message.split("\n  ")[1:]
    assert [line.split(":")[0] for line in lines] == [
        "scale (Scale)",
        "function (Lambda)",
        "tf.math.cumsum (TFOpLambda)",
        "impostor (Dense)",
        "thresholded (ThresholdedReLU)",
        "hard (Activation)",
        "own (Dense)",
    ]
    assert "'hard_sigmoid' is another function in keras" in message


def test_operations_of_keras3_that_cannot_be_converted_are_named():
    inputs = keras.Input((4,))
    x = keras.ops.cumsum(keras.layers.Dense(4, name="low", activation="hard_sigmoid")(inputs), axis=1)
    model = keras.Model(inputs, keras.layers.RMSNormalization(name="rms")(x))
    with pytest.raises(ValueError, match=r"(?s)low \(Dense\).*cumsum.*\(Cumsum\).*rms \(RMSNormalization\)"):
        from_keras3(model)


def test_a_layer_that_cannot_be_called_is_named_and_those_after_it_are_not(monkeypatch):
    def refuse(self, shape):
        raise RuntimeError(f"{self.name} is refused")

    inputs = tf_keras.Input((4,))
    model = tf_keras.Model(inputs, L.Dense(2, name="second")(L.Dense(3, name="first")(inputs)))
    monkeypatch.setattr(keras.layers.Dense, "build", refuse)
    with pytest.raises(ValueError) as raised:
        to_keras3(model)
    assert [line.split(":")[0] for line in str(raised.value).split("\n  ")[1:]] == ["first (Dense)"]


def test_layers_with_vocabularies_are_refused():
    layer = L.IntegerLookup(vocabulary=[3, 5], name="lookup")
    model = tf_keras.Sequential([tf_keras.Input((2,), dtype="int64"), layer])
    with pytest.raises(ValueError, match=r"lookup \(IntegerLookup\): its vocabulary is not among its weights"):
        to_keras3(model)


def test_a_data_format_that_is_missing_in_the_config_is_converted():
    model = tf_keras.Sequential([tf_keras.Input((4, 8, 8)), L.SpatialDropout2D(0.2, data_format="channels_first")])
    assert to_keras3(model).layers[0].data_format == "channels_first"


def test_options_that_do_not_exist_are_named():
    model = tf_keras.Sequential([tf_keras.Input((6, 4)), L.LSTM(3, time_major=True, name="turned")])
    with pytest.raises(ValueError, match=r"turned \(LSTM\): time_major=True does not exist in keras"):
        to_keras3(model)


def test_weights_that_do_not_fit_are_named():
    model = tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3, name="more")])
    model.layers[0].extra = model.layers[0].add_weight("extra", (2,))
    with pytest.raises(ValueError, match=r"more \(Dense\): its weights .*'extra:0', \(2,\).* do not fit"):
        to_keras3(model)


def test_a_weight_outside_the_layers_is_named():
    model = tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3)])
    model.lonely = tf.Variable([1.0], name="lonely")
    with pytest.raises(ValueError, match="lonely:0: it is a weight of a model and of none of its layers"):
        to_keras3(model)


class Subclassed(tf_keras.Model):
    def call(self, inputs):
        return inputs


class Overridden(tf_keras.Model):
    def call(self, inputs):
        return super().call(inputs) * 2


def test_subclassed_and_unbuilt_models_are_refused():
    with pytest.raises(ValueError, match=r"\(Subclassed\): it is a subclassed model"):
        to_keras3(Subclassed())
    inputs = tf_keras.Input((4,))
    with pytest.raises(ValueError, match=r"\(Overridden\): it is a subclassed model"):
        to_keras3(Overridden(inputs, L.Dense(2)(inputs)))
    with pytest.raises(ValueError, match="it is not built: give it an Input"):
        to_keras3(tf_keras.Sequential([L.Dense(2)]))
    with pytest.raises(ValueError, match="it is not built: give it an Input"):
        from_keras3(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="Expected a model of tf_keras, got <Sequential"):
        to_keras3(keras.Sequential([]))
    with pytest.raises(ValueError, match="Expected a model of keras, got 3"):
        from_keras3(3)


def test_ragged_inputs_are_refused():
    inputs = tf_keras.Input((None,), ragged=True, name="words")
    with pytest.raises(ValueError, match=r"words \(InputLayer\): sparse and ragged"):
        to_keras3(tf_keras.Model(inputs, L.Embedding(5, 2)(inputs)))
