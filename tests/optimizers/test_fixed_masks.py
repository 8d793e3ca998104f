import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import testing
from tfsparse.testing import fixtures

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KERNELS = ("conv", "hidden", "head")


def sparse_model(**options):
    """The small model with 75 % zeros in two kernels, compiled; the head is dense."""
    model = testing.small_model()
    tfsparse.prune(model, 0.75, tfsparse.Magnitude(scope="layer"), exclude="head")
    return compiled(model, **options)


def compiled(model, run_eagerly=True):  # a few steps take less time than to trace one
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS, jit_compile=False, run_eagerly=run_eagerly)
    return model


def fit(model, *callbacks, **options):
    return fixtures.fit_compiled(model, callbacks, **({"epochs": 2} | options))


def kernel(model, name):
    return np.array(ops.convert_to_numpy(model.get_layer(name).kernel))


def zeros(model):
    return {name: kernel(model, name) == 0 for name in KERNELS}


def assert_same_zeros(model, expected):
    for name, where in zeros(model).items():
        np.testing.assert_array_equal(where, expected[name], name)


# ---- zeros that are there -------------------------------------------------------------------------------------------


def test_what_is_zero_stays_zero_and_the_rest_trains():
    model, plain = sparse_model(run_eagerly=False), sparse_model()
    before, weights = zeros(model), {name: kernel(model, name) for name in KERNELS}
    optimizer = tfsparse.keep_zeros(model)
    assert model.optimizer is optimizer and len(optimizer.masks) == 2
    fit(model, testing.fixtures.AfterEveryStep(lambda m: assert_same_zeros(m, before)))
    assert all(np.all((kernel(model, n) != weights[n]) | before[n]) for n in ("hidden", "head"))
    rows = {row.weight.split("/")[-2]: row for row in tfsparse.report(model).rows}
    assert rows["conv"].target == rows["conv"].sparsity == 0.75 and rows["head"].target is None
    assert np.sum(zeros(fit(plain))["hidden"]) < np.sum(before["hidden"])


def test_an_embedding_keeps_its_zeros_and_a_weight_that_is_all_zero_trains():
    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(6, 4, name="embedding")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="zeros", name="head")(x))
    embeddings = model.get_layer("embedding").embeddings
    embeddings.assign(np.arange(24).reshape(6, 4) % 3 / 10)
    before = ops.convert_to_numpy(embeddings) == 0
    model.compile("sgd", LOSS)
    assert len(tfsparse.keep_zeros(model).masks) == 1
    x = np.random.default_rng(0).integers(0, 6, (16, 3))
    model.fit(x, x[:, 0] % 2, epochs=2, verbose=0)
    assert np.all(kernel(model, "head") != 0)
    np.testing.assert_array_equal(ops.convert_to_numpy(embeddings) == 0, before)


def test_a_resumed_training_equals_a_straight_one(tmp_path):
    straight, model = sparse_model(), sparse_model()
    for each in (straight, model):
        tfsparse.keep_zeros(each)
    fit(straight)
    fit(model, epochs=1).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fixtures.assert_same(fit(loaded, initial_epoch=1), straight, "resumed")


def test_a_later_prune_starts_from_the_masks():
    model = sparse_model()
    tfsparse.keep_zeros(model)
    before = zeros(model)

    def nothing_grows(model):
        for name, where in zeros(model).items():
            assert np.all(where[before[name]]), name

    fit(model, tfsparse.Prune(sparsity=0.9), fixtures.AfterEveryStep(nothing_grows))
    assert tfsparse.report(model).sparsity == 0.9


def test_it_ends_a_schedule():
    model = compiled(testing.small_model())
    fit(model, tfsparse.Prune("linear", 0.8, total_steps=16))
    before = zeros(model)
    tfsparse.keep_zeros(model)
    assert_same_zeros(fit(model), before)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_two_replicas_keep_the_zeros():
    with testing.two_cpu_strategy().scope():
        model = sparse_model(run_eagerly=False)
        tfsparse.keep_zeros(model, {"head": HEAD})
    before = zeros(model)
    assert_same_zeros(fit(model, tfsparse.Prune("constant", 0.0, tfsparse.Magnitude(scope="layer"))), before)
    model.optimizer.check_replicas()


# ---- masks of the user ----------------------------------------------------------------------------------------------

HEAD = np.tri(8, 4)


@pytest.mark.parametrize("form", ["by name", "by layer", "variable", "bool"])
def test_a_given_mask_is_applied_and_stays(form):
    model = compiled(testing.small_model())
    head = model.get_layer("head")
    given = {"by name": {"head": HEAD}, "by layer": {head: HEAD}, "variable": [(head.kernel, HEAD)]}
    optimizer = tfsparse.keep_zeros(model, given.get(form, {"head": HEAD == 1}))
    np.testing.assert_array_equal(kernel(model, "head") == 0, HEAD == 0)
    assert len(optimizer.masks) == 1 and optimizer.reached_target()
    fit(model)
    np.testing.assert_array_equal(kernel(model, "head") == 0, HEAD == 0)
    assert np.any(kernel(model, "hidden"))


def test_zeros_elsewhere_are_kept_too_and_excluded_ones_grow():
    model = sparse_model()
    before = zeros(model)
    optimizer = tfsparse.keep_zeros(model, {"head": HEAD}, exclude=["conv"])
    assert len(optimizer.masks) == 2
    after = zeros(fit(model))
    np.testing.assert_array_equal(after["hidden"], before["hidden"])
    np.testing.assert_array_equal(after["head"], HEAD == 0)
    assert not np.any(after["conv"])


def test_a_weight_that_a_mask_lets_live_grows_from_zero():
    model = sparse_model()
    tfsparse.keep_zeros(model, {"hidden": np.ones((64, 8))})
    assert np.sum(zeros(fit(model))["hidden"]) < 64


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.ones((2, 2)), r"masks holds one of shape \(2, 2\), expected \(8, 4\) of .*head/kernel"),
        (1.0, r"masks holds one of shape \(\), expected \(8, 4\)"),
        (HEAD / 2, r"masks holds 0.5 for .*head/kernel, expected only 1 \(lives\) and 0"),
        (HEAD * np.nan, "masks holds nan"),
        (np.zeros((8, 4)), "masks leaves no weight of .*head/kernel alive"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    model = compiled(testing.small_model())
    with pytest.raises(ValueError, match=message):
        tfsparse.keep_zeros(model, {"head": mask})
    assert np.all(kernel(model, "head")) and isinstance(model.optimizer, keras.optimizers.SGD)


def test_one_mask_for_several_weights_is_refused():
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2, name="lstm")])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="several weights, .*recurrent_kernel: give pairs"):
        tfsparse.keep_zeros(model, {"lstm": np.ones((3, 8))})


def test_a_mask_of_what_is_excluded_is_refused():
    with pytest.raises(ValueError, match="head/kernel has a mask and is in exclude"):
        tfsparse.keep_zeros(compiled(testing.small_model()), {"head": HEAD}, exclude="head")


def test_a_model_without_zeros_is_refused():
    with pytest.raises(ValueError, match=r"has zeros to keep: prune .* keep_zeros\(model, \{layer: mask\}\)\.$"):
        tfsparse.keep_zeros(compiled(testing.small_model()))


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match="call model.compile"):
        tfsparse.keep_zeros(testing.small_model())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf_keras is TensorFlow's")
def test_a_tf_keras_model_is_told_of_its_own_function():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(8,))])
    with pytest.raises(TypeError, match=r"write tfsparse.tfmot.keep_zeros\(model\)"):
        tfsparse.keep_zeros(model)
