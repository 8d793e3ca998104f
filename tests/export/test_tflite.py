import copy
import dataclasses

import fuzzing
import keras
import numpy as np
import pytest
import tensorflow as tf
from export.small_models import MODELS, examples, pruned
from export.sparse_arrays import sparse
from keras import ops
from tensorflow.lite.tools import flatbuffer_utils

import tfsparse
from tfsparse.export import tflite, tflite_file, tflite_schema
from tfsparse.export import tflite_encoding as encoding

layers = keras.layers


def in_blocks(granularity=(1, 4), sparsity=0.9, inputs=64):
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(64, activation="relu", name="hidden"), layers.Dense(16, name="logits")]
    model = keras.Sequential([keras.Input((inputs,)), *stack])
    tfsparse.prune(model, sparsity, pruner=tfsparse.Magnitude(granularity, "layer"))
    return model


def stock(model, *optimizations, representative=None):
    """What TFLite's own converter writes."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = list(optimizations)
    if representative is not None:
        converter.representative_dataset = lambda: [[x[np.newaxis]] for x in representative]
    return converter.convert()


def weight(file, name):
    return next(t for t in file.tensors if name in t.name)


def array(path, name):
    """A weight as a reader of the file decodes it, and its scale."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    tensor = next(
        t for t in model.subgraphs[0].tensors if name.encode() in t.name and model.buffers[t.buffer].data is not None
    )
    return tflite_file._array(model, tensor), tensor.quantization


def test_blocks_of_a_hand_made_array():
    weights = np.array([[0, 0, 0, 0, 1, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 4]], "float32")
    blocks = encoding.encode(weights, 4)
    assert (blocks.segments.tolist(), blocks.columns.tolist()) == ([0, 1, 1, 3], [1, 0, 1])
    assert blocks.values.tolist() == [1, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 4]
    entries = encoding.encode(weights)
    assert (entries.segments.tolist(), entries.columns.tolist()) == ([0, 2, 2, 4], [4, 7, 0, 7])
    assert entries.values.tolist() == [1, 2, 3, 4] and encoding.smallest(weights).width == 1
    assert [encoding.empty_blocks(weights, width) for width in (1, 4, 16)] == [20 / 24, 0.5, 0]


@pytest.mark.parametrize(
    "shape, width", [((3, 8), 1), ((3, 8), 4), ((2, 3, 3, 16), 16), ((5, 700), 1), ((300, 300), 4)]
)
def test_decoding_reverses_encoding(shape, width):
    weights = sparse(shape)
    encoded = encoding.encode(weights, width)
    parameters = tflite_schema.parameters(encoded)
    assert np.array_equal(tflite_schema.decode(encoded.values, shape, parameters), weights)
    assert tflite_schema.index_bytes(parameters) + encoded.values.nbytes == encoded.nbytes


@pytest.mark.parametrize("largest, dtype", [(255, "uint8"), (256, "uint16"), (65536, "int32")])
def test_indices_have_the_smallest_type(largest, dtype):
    weights = np.zeros((1, largest + 1), "int8")
    weights[0, largest] = 1
    assert encoding.encode(weights).columns.dtype == dtype


def test_blocks_run_sparse(tmp_path):
    model, x = in_blocks(), examples()
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite", representative=x)
    assert [(t.stored, t.runs, t.why) for t in file.tensors] == [("sparse", "sparse", "")] * 2
    assert file.difference < 1e-6
    hidden = weight(file, "hidden")
    assert (hidden.shape, hidden.dtype, hidden.dense_bytes) == ((64, 64), "float32", 64 * 64 * 4)
    stored_blocks = 1024 - 922  # blocks of 64 x 64 / 4, of which round(0.9 x 1024) are pruned
    assert hidden.bytes == stored_blocks * (4 * 4 + 1) + 65
    assert np.array_equal(array(tmp_path / "out.tflite", "hidden")[0], ops.convert_to_numpy(model.layers[0].kernel).T)
    assert file.bytes == (tmp_path / "out.tflite").stat().st_size < len(stock(model)) / 4
    assert [f.name for f in tmp_path.iterdir()] == ["out.tflite"]


def test_the_kernel_is_the_one_that_the_converter_uses(tmp_path):
    """Its EXPERIMENTAL_SPARSITY stores the same bytes where it is right."""
    (tmp_path / "stock.tflite").write_bytes(stock(in_blocks(), tf.lite.Optimize.EXPERIMENTAL_SPARSITY))
    theirs = tfsparse.inspect_tflite(tmp_path / "stock.tflite")
    ours = tfsparse.export_tflite(in_blocks(), tmp_path / "ours.tflite")
    assert [(t.runs, t.shape) for t in theirs.tensors] == [("sparse", t.shape) for t in theirs.tensors]
    for shape in ((64, 64), (16, 64)):
        assert len({next(t.bytes for t in f.tensors if t.shape == shape) for f in (theirs, ours)}) == 1
    assert abs(ours.bytes - theirs.bytes) < 500 and theirs.difference is None


@pytest.mark.parametrize(
    "options, stored, why",
    [
        ({"granularity": (4, 1)}, "sparse", "zeros do not stand in blocks: train with granularity=(1, 4)"),
        ({"granularity": "weight"}, "sparse", "zeros do not stand in blocks: train with granularity=(1, 4)"),
        ({"sparsity": 0.5}, "sparse", "the sparse kernel is taken from 75% zeros on"),
        ({"sparsity": 0.2}, "dense", "the sparse kernel is taken from 75% zeros on"),
        ({"inputs": 66}, "sparse", "the sparse kernel takes multiples of 4 inputs, and here are 66"),
    ],
)
def test_the_reason_why_a_weight_runs_dense(options, stored, why, tmp_path):
    hidden = weight(tfsparse.export_tflite(in_blocks(**options), tmp_path / "out.tflite"), "hidden")
    assert (hidden.stored, hidden.runs, hidden.why) == (stored, "dense", why)


@pytest.mark.parametrize("values, tolerance", [("float32", 1e-6), ("float16", 1e-3), ("int8", 0.03)])
def test_every_form_of_values(values, tolerance, tmp_path):
    """With convolutions, of which a transposed one in float16 would return NaN if it were sparse."""
    model, x = pruned("convolutions"), examples("convolutions")
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite", values, representative=x)
    assert file.difference < tolerance
    assert weight(file, "conv_transpose").stored == ("dense" if values == "float16" else "sparse")
    assert {t.dtype for t in file.tensors} == {values}
    assert all(t.runs == "dense" for t in file.tensors if len(t.shape) > 2)
    for t in file.tensors:
        assert (t.bytes < t.dense_bytes) == (t.stored == "sparse")


def test_zeros_stay_zero_in_int8(tmp_path):
    """Where the mask is zero the integer is zero, and it means exactly zero."""
    model = in_blocks("weight")
    tfsparse.export_tflite(model, tmp_path / "out.tflite", "int8", representative=examples())
    kernel = ops.convert_to_numpy(model.layers[0].kernel).T
    integers, quantization = array(tmp_path / "out.tflite", "hidden")
    assert integers.dtype == np.int8 and not np.any(quantization.zeroPoint)
    assert not np.any(integers[kernel == 0]) and np.any(integers)
    assert np.allclose(integers * quantization.scale[:, np.newaxis], kernel, atol=np.abs(kernel).max() / 127)


@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
def test_never_larger_than_dense(values, tmp_path):
    """A small model stays as the converter writes it."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8)])
    tfsparse.prune(model, 0.5, tfsparse.Magnitude(scope="layer"))
    x = np.ones((4, 8), "float32")
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite", values, representative=x)
    assert {t.stored for t in file.tensors} == {"dense"} and file.difference < 0.02


def test_weights_begin_at_multiples_of_16(tmp_path):
    tfsparse.export_tflite(in_blocks(), tmp_path / "out.tflite")
    content = (tmp_path / "out.tflite").read_bytes()
    for buffer in flatbuffer_utils.read_model_from_bytearray(bytearray(content)).buffers:
        if buffer.data is not None and len(buffer.data) > 100:
            assert content.find(bytes(buffer.data)) % 16 == 0


def test_several_inputs_and_a_layer_called_twice(tmp_path):
    model, x = pruned("nested_and_shared"), examples("nested_and_shared")
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite", representative=x)
    assert file.difference < 1e-5
    assert sorted((t.shape, t.stored) for t in file.tensors if t.shape == (64, 64)) == [((64, 64), "sparse")] * 2


def test_a_file_with_an_open_batch_runs_any_batch(tmp_path):
    tfsparse.export_tflite(in_blocks(), tmp_path / "out.tflite")
    with pytest.warns(UserWarning, match="LiteRT"):
        runner = tf.lite.Interpreter(str(tmp_path / "out.tflite")).get_signature_runner("serving_default")
    x = examples()
    outputs = next(iter(runner(**{next(iter(runner.get_input_details())): x}).values()))
    assert np.allclose(outputs, in_blocks()(x), atol=1e-6)


def test_a_model_with_a_fixed_batch(tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(2, 64)), layers.Dense(64)])
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite").difference < 1e-5


def recurrent(layer, batch=1, steps=5):
    return keras.Sequential([keras.Input((steps, 3), batch_size=batch), layer, layers.Dense(2)])


RECURRENT = {
    "LSTM": lambda: recurrent(layers.LSTM(4)),
    "GRU, three at once": lambda: recurrent(layers.GRU(4), batch=3),
    "both directions": lambda: recurrent(layers.Bidirectional(layers.LSTM(4))),
    "with states": lambda: recurrent(layers.LSTM(4, stateful=True)),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_with_a_fixed_batch(name, tmp_path):
    """With an open batch TFLite cannot make the list of its states."""
    file = tfsparse.export_tflite(RECURRENT[name](), tmp_path / "out.tflite")
    assert file.difference < 1e-5


def test_a_fixed_batch_with_an_open_length(tmp_path):
    model = recurrent(layers.LSTM(4), steps=None)
    x = np.random.default_rng(0).normal(size=(2, 7, 3))
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite", representative=x).difference < 1e-5


def test_several_inputs_keep_their_fixed_batch(tmp_path):
    inputs = {name: keras.Input(batch_shape=(2, 5, 3), name=name) for name in ("a", "b")}
    outputs = layers.Dense(2)(layers.LSTM(4)(inputs["a"]) + layers.LSTM(4)(inputs["b"]))
    model = keras.Model(inputs, outputs)
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite").difference < 1e-5


def test_one_of_several_inputs_has_a_fixed_batch(tmp_path):
    """As a memory that every query is compared with; the other batch stays open."""
    query, memory = keras.Input((4,), name="query"), keras.Input((4,), batch_size=6, name="memory")
    model = keras.Model([query, memory], ops.matmul(query, ops.transpose(memory)))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    examples = {"query": x[:6], "memory": x}
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite", representative=examples).difference < 1e-5


def test_a_recurrent_model_with_an_open_batch_is_told_to_fix_it(tmp_path):
    model = recurrent(layers.LSTM(4), batch=None)
    with pytest.raises(ValueError, match=r"'sequential.*' cannot be made a TFLite file.*, batch_size=1\), and pass it"):
        tfsparse.export_tflite(model, tmp_path / "out.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"dense": True}, {}])
def test_a_saved_model_dense_or_packed(options, tmp_path):
    directory = tfsparse.export(in_blocks(), tmp_path / "saved", **options)
    file = tfsparse.export_tflite(directory, tmp_path / "out.tflite", representative=examples())
    assert {t.runs for t in file.tensors} == {"sparse"} and file.difference < 1e-6


def test_thresholds_become_zeros(tmp_path):
    model = tfsparse.dst(MODELS["plain"]())
    layer = model.get_layer("hidden")
    layer.own_variables[0].assign(ops.full_like(layer.own_variables[0], 0.15))
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite")
    assert weight(file, "hidden").stored == "sparse" and file.difference < 1e-5


def test_the_table_of_a_file(tmp_path):
    file = tfsparse.export_tflite(in_blocks((4, 1)), tmp_path / "out.tflite")
    text = " ".join(str(file).split())
    assert "hidden" in text and "granularity=(1, 4)" in text and "largest difference to the model's outputs" in text
    assert file.as_dict()["tensors"][0]["runs"] == "dense"


def test_a_file_with_wrong_outputs_does_not_appear(tmp_path, monkeypatch):
    def wrong(array, width=1, encode=encoding.encode):
        right = encode(array, width)
        return dataclasses.replace(right, values=right.values * 2)

    monkeypatch.setattr(encoding, "encode", wrong)
    with pytest.raises(RuntimeError, match=r'cannot run this model sparse with values="float32"'):
        tfsparse.export_tflite(in_blocks(), tmp_path / "out.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"values": "int4"}, "expected one of 'float32', 'float16', 'int8'"),
        ({"values": "int8"}, r"representative=x\[:200\]"),
        ({"representative": np.zeros((3, 63))}, r"representative has \(3, 63\) for .*: expected \(None, 64\)"),
        ({"representative": np.zeros((0, 64))}, "fewer examples than the batch of 1"),
        ({"representative": {"nothing": np.zeros((3, 64))}}, "The model's inputs are"),
    ],
)
def test_options_that_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfsparse.export_tflite(in_blocks(), tmp_path / "out.tflite", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_damaged_files_of_examples(tmp_path, seed):
    np.save(tmp_path / "x.npy", examples())
    np.savez(tmp_path / "x.npz", inputs=examples())
    for path in (tmp_path / "x.npy", tmp_path / "x.npz"):
        path.write_bytes(fuzzing.damaged(path.read_bytes(), seed))
        try:
            tflite._batches({"inputs": tf.TensorSpec((None, 64))}, path)
        except tflite.WrongExamples as error:
            assert str(path) in str(error) or "inputs" in str(error)


def test_a_file_of_examples_that_names_more_than_it_holds(tmp_path):
    np.save(tmp_path / "x.npy", examples())
    content = (tmp_path / "x.npy").read_bytes()
    for shape in ((4, 64), (9**15, 64)):
        header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
        (tmp_path / "x.npy").write_bytes(content[:10] + header + content[128:])
        with pytest.raises(tflite.WrongExamples, match=r"x\.npy is not a file of numpy.save or savez with examples"):
            tflite._read(tmp_path / "x.npy")


NOT_NUMBERS = [np.array(["a", "b"]), np.float32(3), np.array([None, {}])]
NOT_NUMBERS += [np.full((2, 64), value) for value in (np.nan, np.inf)]


@pytest.mark.parametrize("array", NOT_NUMBERS)
def test_examples_that_are_no_numbers(array):
    with pytest.raises(tflite.WrongExamples, match="representative"):
        tflite._batches({"inputs": tf.TensorSpec((None, 64))}, array)


def test_weights_that_are_not_zero_where_their_masks_are_are_refused(tmp_path):
    model = in_blocks()
    model.compile("sgd", "mse")
    tfsparse.sparsify(model, "constant", 0.9, total_steps=2)
    model.fit(examples(), np.zeros((3, 16)), verbose=0, epochs=2)
    model.layers[0].kernel.assign(ops.ones((64, 64)))
    with pytest.raises(ValueError, match="not zero where its mask is"):
        tfsparse.export_tflite(model, tmp_path / "out.tflite")
    (tmp_path / "there.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match="exists already"):
        tfsparse.export_tflite(model, tmp_path / "there.tflite")


def test_an_open_shape_needs_examples(tmp_path):
    model = keras.Sequential([keras.Input((None, 8)), layers.Dense(64)])
    with pytest.raises(ValueError, match=r"pass representative="):
        tfsparse.export_tflite(model, tmp_path / "out.tflite")
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite", representative=np.ones((2, 5, 8))).difference < 1e-5


ONE, NAN, INF = (np.array([1, x], "float32") for x in (1, np.nan, np.inf))
INTEGERS = np.array([2**60, 5])
DIFFERENT = [(ONE, NAN), (NAN, ONE), (ONE, INF), (INF, ONE), (INF, -INF), (np.ones(()), np.array(3.0))]
DIFFERENT += [(np.array([True]), np.array([False])), (INTEGERS, INTEGERS + 1), (np.array(["a"]), np.array(["b"]))]
DIFFERENT += [(np.array([1, 255], "uint8"), np.array([2, 255], "uint8")), (ONE + 1j, ONE + 2j), (ONE, ONE[:1])]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_answers_of_any_kind_that_differ_are_refused(one, other):
    """Also in the second of two outputs, and beside numbers of another size."""
    same = np.array([1.0, 1e6])
    with pytest.raises(ValueError, match="cannot run this model sparse"):
        tflite._check_equal([{"a": INTEGERS, "b": one}], [{"a": INTEGERS, "b": other}], "float16")
    if one.dtype.kind not in "fc":
        with pytest.raises(ValueError, match="cannot run this model sparse"):
            tflite._check_equal([{"a": same, "b": one}], [{"a": same, "b": other}], "float16")


EQUAL = [ONE, NAN, INF, np.zeros((2, 0)), np.array([True]), np.array(3), np.arange(4), np.array(["a", ""]), ONE * 1j]


@pytest.mark.parametrize("array", [*EQUAL, np.array([b"a", b""], object), np.array([1, 2], "bfloat16")])
def test_answers_of_any_kind_that_are_equal_pass(array):
    tflite._check_equal([{"a": array}], [{"a": array.copy()}], "float32")
    assert tflite._largest_difference([{"a": array}], [{"a": array.copy()}]) == 0


def test_outputs_that_are_no_floats(tmp_path):
    """Booleans, integers and a scalar."""
    x = keras.Input((64,), name="x")
    hidden = layers.Dense(64)(x)
    outputs = {"dense": hidden, "sign": hidden > 0, "int": ops.cast(10 * hidden, "int32"), "sum": ops.sum(hidden)}
    file = tfsparse.export_tflite(keras.Model(x, outputs), tmp_path / "out.tflite")
    assert file.difference < 1e-5


def test_texts_as_inputs_and_outputs(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.string, name="words")])
    def serve(words):
        return {"first": words[:, 0]}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": serve})
    for x in (None, np.array([["a", "b"], ["c", "d"]])):
        file = tfsparse.export_tflite(tmp_path / "saved", tmp_path / f"{x is None}.tflite", representative=x)
        assert file.difference == 0


INFINITE = {
    "both ends of float32": (lambda x: x, lambda x: np.sign(x) * 3e38),
    "a sum beyond float32": (lambda x: x, lambda x: x * 1e38),
    "infinite inside": (lambda x: ops.log(ops.relu(x)), lambda x: x),
    "no number inside": (lambda x: x / ops.relu(x), lambda x: x),
}


@pytest.mark.parametrize("name", INFINITE)
def test_examples_on_which_a_range_is_not_finite_are_refused(name, tmp_path):
    """TFLite's converter crashes there."""
    inside, outside = INFINITE[name]
    x = keras.Input((64,))
    model = keras.Model(x, layers.Dense(3)(inside(x)))
    with pytest.raises(ValueError, match="cannot be made a TFLite file.*by its range.*on these examples") as refused:
        tfsparse.export_tflite(model, tmp_path / "out.tflite", "int8", np.clip(outside(examples()), -3e38, 3e38))
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_a_mask_of_large_negative_numbers_is_no_error(tmp_path):
    """As it is added before a softmax."""
    x = keras.Input((64,))
    model = keras.Model(x, ops.softmax(layers.Dense(64)(x) + ops.cast(x > 0, "float32") * -1e38))
    assert tfsparse.export_tflite(model, tmp_path / "out.tflite", "int8", examples()).path.is_file()


def test_an_input_without_a_batch_axis(tmp_path):
    """Keras exports none; a SavedModel may have one."""
    module, kernel = tf.Module(), np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    module.kernel = tf.Variable(kernel)

    @tf.function(input_signature=[tf.TensorSpec((None, 8), name="x"), tf.TensorSpec((), name="scale")])
    def serve(x, scale):
        return {"y": x @ module.kernel * scale}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": serve})
    assert tfsparse.export_tflite(tmp_path / "saved", tmp_path / "out.tflite").difference < 1e-5


def test_nan_is_a_difference():
    one, nan = {"y": np.ones(2, "float32")}, {"y": np.array([1, np.nan], "float32")}
    tflite._check_equal([one], [one], "float16")
    with pytest.raises(RuntimeError, match=r'cannot run this model sparse with values="float16"'):
        tflite._check_equal([nan], [one], "float16")


def test_a_model_that_tflite_cannot_convert_is_one_sentence(tmp_path):
    inputs = keras.Input((8,))
    expected = "^'functional.*' cannot be made a TFLite file. TFLite's converter: "
    with pytest.raises(ValueError, match=expected) as refused:
        tfsparse.export_tflite(keras.Model(inputs, ops.erfinv(inputs)), tmp_path / "out.tflite")
    assert isinstance(refused.value, RuntimeError) and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_two_weights_of_one_buffer(tmp_path):
    """The converter keeps equal weights once; one that stays dense may need what another has left."""
    content = stock(in_blocks())
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    tensor = next(t for t in model.subgraphs[0].tensors if tuple(t.shape) == (64, 64))
    model.subgraphs[0].tensors.append(copy.copy(tensor))
    old = tensor.buffer
    tflite_file._store(model, tensor, encoding.encode(tflite_file._array(model, tensor), 4))
    assert tensor.buffer != old and len(model.buffers[old].data) == 64 * 64 * 4


def test_tf_keras_and_its_wrappers(tmp_path):
    tf_keras, stock_pruning = pytest.importorskip("tf_keras"), pytest.importorskip("tensorflow_model_optimization")
    model = tf_keras.Sequential([tf_keras.Input((64,)), tf_keras.layers.Dense(64, name="hidden")])
    schedule = stock_pruning.sparsity.keras.ConstantSparsity(0.9, 0, frequency=1)
    model = tfsparse.tfmot.prune_low_magnitude(model, schedule, block_size=(4, 1))
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 64)), np.ones((8, 64)), verbose=0)
    file = tfsparse.export_tflite(model, tmp_path / "out.tflite")
    assert [(t.runs, round(t.sparsity, 2)) for t in file.tensors] == [("sparse", 0.9)] and file.difference < 1e-5
