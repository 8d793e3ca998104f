import contextlib

import keras
import numpy as np
import pytest
from keras import ops
from thoroughly import also

import tfsparse
from tfsparse import testing


def trained(**options):
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    options = {"pruner": tfsparse.Magnitude(scope="layer")} | options
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.75, **options)])
    return model


def test_rows_are_counted_and_flops_are_right():
    model = trained(exclude=[])
    report = tfsparse.report(model)
    conv, hidden, head = report.rows
    assert (conv.size, hidden.size, head.size) == (36, 512, 32)
    assert (conv.kept, hidden.kept, head.kept) == (9, 128, 8)
    assert conv.flops == 2 * 36 * 16  # a 3x3 kernel at the 4x4 places of a 6x6 image
    assert hidden.effective_flops == 2 * 128
    assert report.sparsity == 0.75
    assert report.nonzero_parameters == sum(int(np.count_nonzero(w)) for w in model.get_weights())


def test_counts_the_weights_and_not_the_target():
    model = trained()
    kernel = model.get_layer("hidden").kernel
    kernel.assign(ops.ones_like(kernel))
    row = tfsparse.report(model).rows[1]
    assert (row.target, row.sparsity) == (0.75, 0.0)


def test_a_report_as_dict_text_and_dataframe():
    report = tfsparse.report(trained())
    assert report.as_dict()["rows"][1]["kept"] == 128
    assert "hidden/kernel" in str(report)
    assert "75.00%" in str(report)
    frame = pytest.importorskip("pandas") and report.to_dataframe()
    assert list(frame["size"]) == [36, 512, 32]


def test_a_global_target_is_that_of_all_kernels_together():
    report = tfsparse.report(trained(pruner={"name": "magnitude", "scope": "global"}))
    assert {round(r.target, 6) for r in report.rows} == {0.75}
    assert report.sparsity == 0.75
    assert len({r.sparsity for r in report.rows}) > 1


def test_a_layer_with_a_target_of_its_own_does_not_share_the_global_one():
    report = tfsparse.report(trained(pruner="magnitude", sparsities={"hidden": 0.5}))
    conv, hidden, head = report.rows
    assert (hidden.target, hidden.sparsity) == (0.5, 0.5)
    assert conv.target == head.target == (36 + 32 - conv.kept - head.kept) / (36 + 32) == 0.75


def test_a_model_without_pruning_has_no_targets():
    report = tfsparse.report(testing.small_model())
    assert [r.target for r in report.rows] == [None] * 3
    assert report.sparsity == 0.0


def test_shared_layer_counts_twice_and_unknown_shapes_are_unknown():
    inputs, shared = keras.Input((8,)), keras.layers.Dense(8)
    assert tfsparse.report(keras.Model(inputs, shared(shared(inputs)))).rows[0].flops == 2 * 2 * 64
    sequence = keras.Input((None, 8))
    assert tfsparse.report(keras.Model(sequence, shared(sequence))).rows[0].flops is None


def test_calls_in_other_models_do_not_count_and_those_of_nested_models_do(tmp_path):
    dense = keras.layers.Dense(8)
    inner = keras.Sequential([keras.Input((8,)), dense])
    alone = keras.Sequential([keras.Input((8,)), dense, keras.layers.Dense(2)])
    assert [r.flops for r in tfsparse.report(alone).rows] == [2 * 64, 2 * 16]
    inputs = keras.Input((8,))
    assert tfsparse.report(keras.Model(inputs, inner(inner(inputs)))).rows[0].flops == 2 * 2 * 64
    alone.save(tmp_path / "alone.keras")  # Keras loads it layer by layer, and calls the first anew for each
    loaded = keras.saving.load_model(tmp_path / "alone.keras")
    assert [r.flops for r in tfsparse.report(loaded).rows] == [2 * 64, 2 * 16]


UNQUANTISED = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")  # Keras about most layers


@UNQUANTISED
@pytest.mark.parametrize("name", ["attention", *also(["small_model"])])
def test_what_keras_quantises_keeps_its_zeros_and_is_counted(name):
    """Weight by weight; kernels of convolutions are not quantised by Keras and stay floats."""
    model = {"small_model": testing.small_model, "attention": attention}[name]()
    tfsparse.prune(model, 0.75, tfsparse.Magnitude(scope="layer"))
    before, report = {w.path: ops.convert_to_numpy(w) for w in model.weights}, tfsparse.report(model)
    model.quantize("int8")
    after = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    integers = [path for path, array in after.items() if array.dtype == np.int8]
    assert len(integers) == {"small_model": 2, "attention": 5}[name]
    assert not any(np.any(after[path][before[path] == 0]) for path in integers)
    rows = {r.weight: r for r in tfsparse.report(model).rows}
    assert {path: row.flops for path, row in rows.items()} == {r.weight: r.flops for r in report.rows}
    for path, row in rows.items():
        assert row.kept == np.count_nonzero(after[path]) > 0 and row.sparsity >= 0.75


def attention():
    inputs = keras.Input((4, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, keras.layers.EinsumDense("abc,cd->abd", (4, 8))(x))


@UNQUANTISED
def test_int4_kernels_are_refused():
    model = testing.small_model()
    model.quantize("int4")
    with pytest.raises(ValueError, match=r"hidden is quantised \(int4\): .* before model.quantize"):
        tfsparse.report(model)


# ---- whatever is trainable now --------------------------------------------------------------------------------------


def test_a_frozen_model_has_the_sparsity_it_was_trained_to(tmp_path):
    model = trained()
    model.trainable = False
    report = tfsparse.report(model)
    assert report.sparsity == 0.75 and report.parameters == sum(w.size for w in model.get_weights())
    assert [r.dense_because for r in report.rows] == [None] * 3
    new = keras.Sequential([keras.Input((6, 6, 1)), model])
    assert tfsparse.report(new).sparsity == 0.75


def test_a_frozen_pruned_base_counts_beside_a_head_that_is_pruned_now():
    base = trained()
    base.trainable = False
    model = keras.Sequential([keras.Input((6, 6, 1)), base, keras.layers.Dense(4, name="top")])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)])
    report = tfsparse.report(model)
    assert [r.sparsity for r in report.rows] == [0.75, 0.75, 0.75, 0.5]
    assert [r.dense_because for r in report.rows] == ["it is frozen"] * 3 + [None]
    assert report.sparsity == (0.75 * 580 + 0.5 * 16) / 596


# ---- nothing is left dense in silence -------------------------------------------------------------------------------


class Cell(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), name="w")
        self.expert = self.add_weight(shape=(2, shape[-1], 8), name="expert_feedforward_gate_dense")

    def call(self, inputs):
        return inputs @ self.w + inputs @ self.expert[0] + inputs @ self.expert[1]


def with_a_cell(**options):
    tokens = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(8, 8, name="words")(tokens)
    cell = Cell(name="cell")(keras.layers.Dense(16, name="dense")(keras.layers.Flatten()(embedded)))
    model = keras.Model(tokens, keras.layers.Dense(4, name="out")(cell))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.default_rng(0).integers(0, 8, (32, 4)), np.zeros(32, int)
    chosen = [(getattr(model.get_layer("cell"), name), s) for name, s in options.pop("cell", {}).items()]
    callback = tfsparse.Prune(sparsity=0.75, sparsities=chosen, **options)
    with contextlib.nullcontext() if chosen else pytest.warns(UserWarning, match="cell/w .* stays dense") as said:
        model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    report = tfsparse.report(model)
    for d in () if chosen else report.dense[1:]:
        assert f"{d.weight} {d.shape} stays dense: {d.because}" in str(said[0].message)
    return report


def test_weights_that_are_no_kernels_are_listed_as_training_named_them_with_the_line_that_includes_them():
    report = with_a_cell(exclude="out")
    reasons = {d.weight: (d.size, d.because) for d in report.dense}
    assert reasons["cell/w"] == (128, "its name does not end in 'kernel', write Prune(sparsities=[('cell', 0.75)])")
    assert reasons["cell/expert_feedforward_gate_dense"][0] == 256
    assert "layer.embeddings" in reasons["words/embeddings"][1]
    assert {r.weight: r.dense_because for r in report.rows} == {"dense/kernel": None, "out/kernel": "it is excluded"}
    for text in ("cell/w, 128 entries, is dense", "out/kernel is dense: it is excluded"):
        assert text in " ".join(str(report).split())
    assert report.as_dict()["dense"][0]["weight"] == "words/embeddings"
    assert report.model_sparsity == 1 - report.nonzero_parameters / report.parameters < report.sparsity == 0.75


def test_the_line_includes_them():
    report = with_a_cell(cell={"w": 0.5, "expert": 0.5})
    assert [d.weight for d in report.dense] == ["words/embeddings"]
    assert {r.weight: r.sparsity for r in report.rows}["cell/expert_feedforward_gate_dense"] == 0.5


def test_a_kernel_of_a_shape_that_the_pruner_cannot_prune_says_so():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="b")(keras.layers.Dense(8, name="a")(inputs)))
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="a/kernel .* it stays dense"):
        optimizer = tfsparse.sparsify(model, "constant", 0.5, tfsparse.Magnitude(granularity="2:4"), total_steps=2)
    optimizer.prune_now()
    because = "whole units of this shape come no nearer to the target"
    assert [r.dense_because for r in tfsparse.report(model).rows] == [because, None]


def test_every_kernel_that_stays_dense_has_its_reason():
    model = testing.small_model()
    model.get_layer("conv").trainable = False
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tfsparse.sparsify(model, sparsity=0.5, total_steps=2, skip_last=True)
    assert [r.dense_because for r in tfsparse.report(model).rows] == ["it is frozen", None, "it is excluded"]
    model.get_layer("conv").trainable = True
    assert tfsparse.report(model).rows[0].dense_because == "the optimizer was built before it was unfrozen"


def test_the_reason_of_weights_of_keras_is_no_advice_to_rename_them():
    inputs = keras.Input((4, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, name="heads")(inputs, inputs)
    model = keras.Model(inputs, keras.layers.PReLU(name="prelu")(attention))
    model.compile("sgd", "mse")
    tfsparse.sparsify(model, sparsity=0.5, total_steps=2, exclude="prelu").prune_now()
    report = tfsparse.report(model)
    reasons = {d.weight: d.because for d in report.dense}
    assert reasons.pop("prelu/alpha") == "it is excluded"
    line = "Prune(sparsities=[(layer.bias, 0.5)])"
    assert set(reasons.values()) == {f"weights that are no kernels are pruned only if they are chosen, {line}"}
    assert str(report).index("prelu/alpha, 32") < str(report).index("heads/query/bias, 8")  # the largest first


@pytest.mark.filterwarnings("ignore:The masks of", "ignore:Skipping variable loading")
def test_a_loaded_model_with_fewer_trainable_weights_is_reported(tmp_path):
    model = trained(exclude="head")
    for name in ("hidden", "head"):
        model.get_layer(name).trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [r.dense_because for r in tfsparse.report(loaded).rows] == [None, "it is frozen", "it is frozen"]


def test_weights_that_their_masks_do_not_cover_are_counted():
    model = trained()
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.ones(kernel.shape))
    report = tfsparse.report(model)
    assert [r.broken for r in report.rows] == [0, 384, 0]
    assert "masks prune entries that are not zero in" in " ".join(str(report).split())


def test_layers_of_one_name_have_rows_of_two_names():
    def encoder(name):
        encoded = keras.Input((4,))
        return keras.Model(encoded, keras.layers.Dense(8, name="a")(encoded), name=name)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.add([encoder("left")(inputs), encoder("right")(inputs)]))
    assert [r.weight for r in tfsparse.report(model).rows] == ["a/kernel", "a/kernel#2"]


def test_a_tf_keras_model_is_told_of_its_conversion():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(8,))])
    with pytest.raises(TypeError, match=r"model of tf_keras .* write tfsparse.report\(tfsparse.tfmot.to_keras3\(model"):
        tfsparse.report(model)
