"""Weights of one's own that could be pruned, and that nobody chose."""

import warnings

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse.pruners import left_dense, selection


class Cell(keras.layers.Layer):
    """One kernel, three weights that are like kernels, and three that are not."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8), name="kernel")
        self.matrix = self.add_weight(shape=(shape[-1], 8), name="w")
        self.experts = [self.add_weight(shape=(shape[-1], 8), name=f"expert_{i}") for i in range(2)]
        self.position_bias = self.add_weight(shape=(4, 8), name="relative_bias")
        self.position_embedding = self.add_weight(shape=(4, 8), name="position_embedding")
        self.class_token = self.add_weight(shape=(1, 1, 8), name="cls")

    def call(self, inputs):
        weight = self.kernel + self.matrix + self.experts[0] + self.experts[1]
        return inputs @ weight + self.position_bias + self.position_embedding + self.class_token


class Plain(keras.layers.Layer):
    """A single weight."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), name="w")

    def call(self, inputs):
        return inputs @ self.w


class Unembed(keras.layers.Layer):
    """Shares the weight of an embedding."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.table = embedding.embeddings

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.table))


def compiled(*layers):
    model = keras.Sequential([keras.Input((4, 8)), *layers], name="model")
    model.compile("sgd", "mse")
    return model


def said_by(function, *arguments, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(warning.message) for warning in said if warning.category is UserWarning]


def of_keras():
    """Layers of Keras with weights of rank 2 and more that are no kernels."""
    tokens = keras.Input((4,), dtype="int32")
    reversible = keras.layers.ReversibleEmbedding(16, 8, name="reversible")
    x = keras.layers.Embedding(16, 8, name="words")(tokens) + reversible(tokens)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.GroupQueryAttention(4, 2, 1)(x, x)
    x = keras.layers.PReLU()(keras.layers.LayerNormalization(axis=(1, 2))(x))
    x = keras.layers.GRU(8, return_sequences=True)(keras.layers.BatchNormalization()(x))
    x = keras.layers.AdditiveAttention()([x, x])
    model = keras.Model(tokens, reversible(x, reverse=True))
    model.compile("sgd", "mse")
    return model


def test_no_weight_of_a_layer_of_keras_is_named():
    assert said_by(tfsparse.sparsify, of_keras(), total_steps=2) == []


def test_adapters_of_keras_are_not_named():
    dense = keras.layers.Dense(8)
    dense.build((None, 8))
    dense.enable_lora(2)
    names = {v.name: left_dense.could_be_pruned(v, [dense]) for v in dense.trainable_variables}
    assert names == {"bias": False, "lora_kernel_a": False, "lora_kernel_b": False}


@pytest.mark.parametrize("road", ["sparsify", "prune"])
def test_weights_of_own_layers_are_named_in_one_warning_with_the_lines_for_them(road):
    model = compiled(Cell(name="cell"), Plain(name="plain"))
    (said,) = said_by(getattr(tfsparse, road), model, sparsity=0.75)
    for name, item in (("w", "layer.matrix"), ("expert_0", "layer.weights[2]"), ("expert_1", "layer.weights[3]")):
        assert f"model/cell/{name} (8, 8) stays dense: its name does not end in 'kernel', " in said
        assert f"write Prune(sparsities=[({item}, 0.75)])" in said
    assert "write Prune(sparsities=[('plain', 0.75)])" in said
    assert said.endswith("exclude=[layer.matrix, layer.weights[2], layer.weights[3], 'plain'].")
    assert all(name not in said for name in ("bias", "embedding", "cls"))


def test_the_warning_is_short_with_many_weights():
    model = compiled(keras.layers.Dense(8), *(Plain(name=f"plain_{i}") for i in range(6)))
    (said,) = said_by(tfsparse.prune, model, 0.5)
    assert said.count("stays dense") == 4 and "; and 2 more, see tfsparse.report(model)" in said


def test_the_lines_of_the_warning_do_as_it_says():
    model = compiled(Cell(name="cell"), Plain(name="plain"), Plain(name="other"))
    layer = model.get_layer("cell")
    sparsities = [(layer.matrix, 0.75), (layer.weights[2], 0.75), ("plain", 0.75)]
    tfsparse.prune(model, 0.5, sparsities=sparsities, exclude=[layer.weights[3], "other"])
    weights = [layer.matrix, layer.weights[2], model.get_layer("plain").w, layer.weights[3], model.get_layer("other").w]
    assert [np.mean(np.array(v) == 0) for v in weights] == [0.75, 0.75, 0.75, 0, 0]


def test_excluding_a_layer_by_name_silences_all_of_its_weights():
    model = compiled(Cell(name="cell"), keras.layers.Dense(4, name="out"))
    tfsparse.sparsify(model, sparsity=0.5, total_steps=2, exclude="cell")
    assert [v.path for v in model.optimizer.pruned_variables] == ["model/out/kernel"]
    assert all("excluded" in d.because for d in tfsparse.report(model).dense)


def test_a_weight_of_an_excluded_layer_may_have_a_sparsity_of_its_own():
    model = compiled(Cell(name="cell"))
    cell = model.get_layer("cell")
    tfsparse.sparsify(model, sparsity=0.5, total_steps=2, sparsities=[(cell.matrix, 0.5)], exclude="cell")
    assert [v.path for v in model.optimizer.pruned_variables] == ["model/cell/w"]


def test_nothing_is_named_where_only_what_is_chosen_is_pruned():
    model = compiled(Plain(), keras.layers.Dense(8, name="dense"))
    assert said_by(tfsparse.prune, model, 0.0, sparsities={"dense": 0.5}) == []


def test_frozen_weights_are_not_named():
    model = compiled(Plain(trainable=False), keras.layers.Dense(8))
    assert said_by(tfsparse.prune, model, 0.5) == []


@pytest.mark.parametrize("built", [True, False])
def test_fit_names_them_once(built):
    model = keras.Sequential([Plain(name="plain"), keras.layers.Dense(2, name="out")])
    model.compile("sgd", "mse")
    x, y = np.ones((16, 8), "float32"), np.ones((16, 2))
    if built:
        model.build((None, 8))

    def fit():
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)])

    (said,) = said_by(fit)
    assert "plain/w (8, 8) stays dense: " in said
    assert said_by(fit) == []  # trains on at the target


@pytest.mark.filterwarnings("ignore:model/cell/w .* stays dense")
def test_a_choice_of_a_file_from_before_is_still_the_same_choice():
    """An excluded layer used to put its kernels alone into the file."""
    model = compiled(Cell(name="cell"), keras.layers.Dense(4))
    optimizer = tfsparse.SparseOptimizer("sgd", sparsity=0.5, total_steps=4)
    optimizer.exclude_from_pruning([model.get_layer("cell").kernel])
    optimizer.build(model.trainable_variables)
    assert optimizer.has_choices(selection.Choice(exclude="cell").resolve(model))
    assert not optimizer.has_choices(selection.Choice([(model.get_layer("cell").matrix, 0.5)]).resolve(model))


def test_reasons_name_what_else_computes_with_a_weight():
    tokens = keras.Input((4,), dtype="int32")
    words, reversible = keras.layers.Embedding(16, 8, name="words"), keras.layers.ReversibleEmbedding(9, 8, name="both")
    x = words(tokens) + reversible(tokens)
    model = keras.Model(tokens, [Unembed(words, name="out")(x), reversible(x, reverse=True)])
    owners = left_dense.owners(model)
    reasons = [left_dense.reason(v, owners[id(v)], 0.5) for v in model.trainable_variables]
    assert len(reasons) == 2  # each weight once
    assert reasons[0].startswith("it is tied, words and out share it; embeddings are pruned only if they are chosen")
    assert reasons[1].startswith("it is tied, both also computes the output with it; embeddings")
    assert reasons[1].endswith("Prune(sparsities=[(layer.embeddings, 0.5)])")


def test_an_optimizer_of_ones_own_loop_names_them_once_when_it_is_built():
    model = compiled(Cell(name="cell"))
    optimizer = tfsparse.SparseOptimizer("sgd", sparsity=0.75, total_steps=4)
    (said,) = said_by(optimizer.build, model.trainable_variables)
    for name in ("w", "expert_0", "expert_1"):
        assert f"model/cell/{name} (8, 8) stays dense: its name does not end in 'kernel'" in said
    assert said.count("stays dense") == 3
    assert "optimizer.set_sparsity(variable, 0.75)" in said and "var_names=['model/cell/w']" in said
    assert said_by(optimizer.build, model.trainable_variables) == []  # as a LossScaleOptimizer builds it again


def test_an_optimizer_of_ones_own_loop_names_nothing_that_was_decided_or_is_of_keras():
    model = compiled(Cell(name="cell"), keras.layers.EinsumDense("abc,cd->abd", (4, 8), bias_axes="bd"))
    model.layers[-1].enable_lora(2)
    optimizer = tfsparse.SparseOptimizer("sgd", sparsity=0.75, total_steps=4)
    optimizer.set_sparsity(model.layers[0].matrix, 0.5)
    optimizer.exclude_from_pruning(var_names=["expert"])
    assert said_by(optimizer.build, model.trainable_variables) == []
    again = tfsparse.SparseOptimizer.from_config(tfsparse.SparseOptimizer("sgd", total_steps=4).get_config())
    assert said_by(again.build, model.trainable_variables) == []  # training has named them before it was saved
    nothing = tfsparse.SparseOptimizer("sgd", sparsity=0.0, total_steps=4)
    assert said_by(nothing.build, model.trainable_variables) == []
