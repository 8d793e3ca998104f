import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import testing
from tfsparse.optimizers import compiled_model

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_sparsify_without_a_callback():
    model = testing.small_model()
    model.compile("sgd", LOSS)
    optimizer = tfsparse.sparsify(model, "linear", sparsity=0.5, total_steps=8)
    assert compiled_model.sparse_optimizer(model) is optimizer
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert optimizer.current_sparsity() == 0.5


def test_loss_scaling_stays_outside_with_its_state():
    model = testing.small_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0), LOSS)
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, verbose=0)
    model.optimizer.dynamic_scale.assign(32.0)
    tfsparse.sparsify(model, sparsity=0.5, total_steps=8)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(ops.convert_to_numpy(model.optimizer.dynamic_scale)) == 32.0
    assert compiled_model.sparse_optimizer(model) is model.optimizer.inner_optimizer


def test_a_loss_scaled_model_is_saved_whole(tmp_path):
    model = testing.small_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)), LOSS)
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)])
    names = [v.path for v in model.optimizer.variables]
    assert len(names) == len(set(names))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for mine, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs))


# ---- the optimizer is exchanged, and nothing else -------------------------------------------------------------------

INPUTS = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
TARGETS = INPUTS[:, :1]


class OwnCompile(keras.Model):
    """A subclass with arguments of its own, as a model of KerasHub has them; the user does not use the defaults."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def compile(self, optimizer="auto", loss="mse", *, weighted_metrics="mae", sampler="top_k", **options):
        super().compile("sgd" if optimizer == "auto" else optimizer, loss, weighted_metrics=weighted_metrics, **options)
        self.sampler = sampler


class VAE(keras.Model):
    """A subclass whose `compile` accepts nothing else, and which counts its calls."""

    def __init__(self):
        super().__init__()
        self.encoder, self.compiled_times = keras.layers.Dense(8), 0

    def call(self, inputs):
        return self.encoder(inputs)

    def compile(self, optimizer, beta):
        super().compile(optimizer, "mse")
        self.beta, self.compiled_times = beta, self.compiled_times + 1


def own_compile():
    model = OwnCompile()
    model(INPUTS[:1])
    return model, {"loss": "mae", "weighted_metrics": ["mse"], "sampler": "greedy"}, TARGETS


def vae():
    model = VAE()
    model(INPUTS[:1])
    return model, {"beta": 4.0}, INPUTS


def distilled():
    teacher, student = (keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)]) for _ in range(2))
    model = keras.distillation.Distiller(teacher, student, keras.distillation.LogitsDistillation())
    return model, {"loss": "mae"}, TARGETS


def without_loss_scaling():
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, dtype=policy)])
    model.dtype_policy = policy
    return model, {"loss": "mae", "auto_scale_loss": False}, TARGETS


@pytest.mark.parametrize("make", [own_compile, vae, distilled, without_loss_scaling])
def test_all_that_was_compiled_stays(make):
    model, options, y = make()
    model.compile("adam", **options)
    inner = model.optimizer
    before = {name: getattr(model, name, None) for name in ("loss", "sampler", "beta", "compiled_times", "metrics")}
    config = model.get_compile_config()
    history = model.fit(INPUTS, y, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)]).history
    assert history["sparsity"][-1] == 0.5
    assert {name: getattr(model, name, None) for name in before} == before
    assert model.optimizer.inner_optimizer is inner
    assert model.get_compile_config() | {"optimizer": None} == config | {"optimizer": None}


def test_a_step_that_was_compiled_before_is_compiled_anew():
    model = testing.small_model()
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    x, y = testing.small_data()
    model.train_on_batch(x, y)
    optimizer = tfsparse.sparsify(model, "constant", sparsity=0.5, total_steps=8)
    model.train_on_batch(x, y)
    assert optimizer.steps_done == 1 and optimizer.current_sparsity() == 0.5


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
def test_replace_optimizer_keeps_what_was_compiled():
    """As PruneGSM does, which replaces SGD by GSM."""
    model, options, y = vae()
    model.compile("sgd", **options)
    model.fit(INPUTS, y, epochs=4, verbose=0, callbacks=[tfsparse.PruneGSM(compression=2)])
    assert (model.beta, model.compiled_times) == (4.0, 1)


def test_a_saved_file_holds_what_was_compiled_and_the_sparse_optimizer(tmp_path):
    model = testing.small_model()
    model.compile("adam", LOSS, metrics=["accuracy"])
    tfsparse.sparsify(model, sparsity=0.5, total_steps=8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert compiled_model.sparse_optimizer(loaded).sparsity == 0.5
    assert loaded.get_compile_config()["metrics"] == ["accuracy"]
    assert loaded.get_compile_config()["loss"] == model.get_compile_config()["loss"]


# ---- models of the other Keras --------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", [tfsparse.Prune, lambda: tfsparse.PruneGSM(compression=2)])
def test_a_tf_keras_model_is_told_of_tfmot(callback):
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(8,))])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"is a model of tf_keras \(Keras 2\), .* write .*tfsparse.tfmot.Prune"):
        model.fit(INPUTS, TARGETS, verbose=0, callbacks=[callback()])


# ---- tied weights ----------------------------------------------------------------------------------------------------


class Reversed(keras.layers.Layer):
    """Multiplies by the transposed kernel of another layer, which it holds too."""

    def __init__(self, other):
        super().__init__()
        self.kernel = other.kernel

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.kernel))


def called_twice():
    inputs, dense = keras.Input((8,)), keras.layers.Dense(8, use_bias=False, name="tied")
    return keras.Model(inputs, dense(dense(inputs)))


def shared_variable():
    inputs, dense = keras.Input((8,)), keras.layers.Dense(8, use_bias=False, name="tied")
    hidden = dense(inputs)
    return keras.Model(inputs, Reversed(dense)(hidden))


def reversible_embedding():
    inputs, embedding = keras.Input((4,)), keras.layers.ReversibleEmbedding(8, 8, name="tied")
    outputs = keras.layers.Flatten()(embedding(embedding(inputs), reverse=True))
    return keras.Model(inputs, keras.layers.Dense(1, trainable=False)(outputs))


@pytest.mark.parametrize("make", [called_twice, shared_variable, reversible_embedding])
def test_a_tied_weight_counts_once(make):
    model = make()
    model.compile("sgd", "mse", run_eagerly=True)
    x = np.arange(32 * model.input.shape[1]).reshape(32, -1) % 8
    y = np.zeros((32, *model.output.shape[1:]))
    prune = tfsparse.Prune(sparsity=0.75, sparsities={"tied": 0.75})
    model.fit(x, y, epochs=2, verbose=0, callbacks=[prune])
    (row,) = [row for row in tfsparse.report(model).rows if "tied" in row.weight]
    assert (row.size, row.kept, row.target) == (64, 16, 0.75)
    assert len(model.optimizer.masks) == 1 and model.optimizer.num_zeros() == 48
    if keras.backend.backend() == "tensorflow":
        bytes_of_all = sum(4 * v.numpy().size for v in model.weights)
        assert tfsparse.sizes(model).rows[0].bytes == bytes_of_all
