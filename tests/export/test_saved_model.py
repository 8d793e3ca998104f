import gc
import logging
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.small_models import MODELS, examples, pruned
from keras import ops
from tensorflow.python.framework import convert_to_constants

import tfsparse
from tfsparse import testing
from tfsparse.export import packing
from tfsparse.testing.devices import two_cpu_strategy

PER_LAYER = tfsparse.Magnitude(scope="layer")
ELSEWHERE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tfsparse":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

directory, inputs, outputs = sys.argv[1:]
loaded = tf.saved_model.load(directory)
np.save(outputs, loaded.serve(np.load(inputs)))
"""


def trained():
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[tfsparse.Prune("constant", 0.75, PER_LAYER)])
    return model


def load(path):
    return tf.saved_model.load(str(path))


def answers(path, x):
    loaded = load(path)  # kept: `serve` needs its variables, in every SavedModel
    return loaded.serve(x)


def bits(outputs):
    return [np.asarray(t).tobytes() for t in tf.nest.flatten(outputs)]


def weight(loaded):
    """The first packed weight, as it is in memory."""
    return loaded.packed[0].numpy()


def size(directory):
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


def run(folder, *command):
    """Run Python in a process of its own, in another directory."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_the_dense_model_bit_for_bit(name, tmp_path):
    model, x = pruned(name), examples(name)
    dense = load(tfsparse.export(model, tmp_path / "dense", dense=True))
    packed = load(tfsparse.export(model, tmp_path / "packed"))
    assert len(packed.packed) > 0 and not hasattr(dense, "packed")
    assert bits(packed.serve(x)) == bits(dense.serve(x))
    assert set(packed.signatures) == {"serve", "serving_default"}
    for key, signature in dense.signatures.items():
        assert packed.signatures[key].structured_input_signature == signature.structured_input_signature
        assert packed.signatures[key].structured_outputs == signature.structured_outputs


def test_progress_counts_the_entries_of_all_weights(tmp_path):
    model, seen = pruned(), []
    tfsparse.export(model, tmp_path / "packed", progress=lambda *counts: seen.append(counts))
    done, totals = zip(*seen, strict=True)
    assert len(seen) == len(model.weights) and {*totals} == {model.count_params()}
    assert [0, *done] == sorted({0, *done}) and done[-1] == model.count_params()


def test_any_batch_size(tmp_path):
    served = load(tfsparse.export(pruned(), tmp_path / "out"))
    assert [served.serve(np.zeros((n, 64), "float32")).shape[0] for n in (1, 7)] == [1, 7]


def test_a_process_without_tfsparse_and_the_session_loader(tmp_path):
    """saved_model_cli does what TensorFlow Serving does: a session, the loader, the names of the signature."""
    directory, x = tfsparse.export(pruned(), tmp_path / "out"), examples()
    expected = answers(directory, x).numpy()
    np.save(tmp_path / "x.npy", x)
    run(tmp_path, "-c", ELSEWHERE, "out", "x.npy", "y.npy")
    assert np.load(tmp_path / "y.npy").tobytes() == expected.tobytes()
    options = ["--tag_set", "serve", "--signature_def", "serving_default", "--inputs", "pixels=x.npy"]
    cli = ["-m", "tensorflow.python.tools.saved_model_cli"]
    run(tmp_path, *cli, "run", "--dir", "out", *options, "--outdir", "cli")
    assert np.load(tmp_path / "cli" / "output_0.npy").tobytes() == expected.tobytes()


def test_a_session_loads_a_model_of_which_everything_is_packed(tmp_path):
    model, x = keras.Sequential([keras.Input((64,), name="x"), keras.layers.Dense(64, use_bias=False)]), examples()
    tfsparse.prune(model, 0.9, PER_LAYER)
    directory = tfsparse.export(model, tmp_path / "out")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(directory)).signature_def["serving_default"]
        names = [next(iter(tensors.values())).name for tensors in (signature.inputs, signature.outputs)]
        served = session.run(names[1], {names[0]: x})
    assert served.tobytes() == answers(directory, x).numpy().tobytes()


def test_a_directory_can_be_moved(tmp_path):
    directory, x = tfsparse.export(pruned(), tmp_path / "out"), examples()
    expected = bits(answers(directory, x))
    os.rename(directory, tmp_path / "elsewhere")
    assert bits(answers(tmp_path / "elsewhere", x)) == expected


def test_a_packed_model_is_smaller_on_disk(tmp_path):
    model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(256)])
    tfsparse.prune(model, 0.95, PER_LAYER)
    packed, dense = tfsparse.export(model, tmp_path / "packed"), tfsparse.export(model, tmp_path / "dense", dense=True)
    assert sum(f.stat().st_size for f in packed.glob("assets/*")) < 256 * 256 * 4 / 17
    assert size(packed) < size(dense) / 5


def test_a_large_weight_has_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "ENTRIES_PER_FILE", 1000)
    model, x = pruned(), examples()
    dense, packed = tfsparse.export(model, tmp_path / "dense", dense=True), tfsparse.export(model, tmp_path / "out")
    assert len(list(packed.glob("assets/*"))) == 5  # 64 * 64 entries
    assert bits(answers(packed, x)) == bits(answers(dense, x))


@pytest.mark.parametrize("number", [-0.0, np.nan, np.inf, 1e-45])
def test_special_numbers_are_kept_bit_for_bit(number, tmp_path):
    model = pruned()
    kernel = model.get_layer("hidden").kernel
    changed = ops.convert_to_numpy(kernel).copy()
    changed[3, 5] = number
    kernel.assign(changed)
    value = weight(load(tfsparse.export(model, tmp_path / "out")))
    assert value.tobytes() == changed.tobytes()


@pytest.mark.parametrize("values, tolerance", [("float16", 2e-3), ("int8", 2e-2)])
def test_rounded_values_change_outputs_little(values, tolerance, tmp_path):
    model, x = pruned(), examples()
    exact, rounded = tfsparse.export(model, tmp_path / "exact"), tfsparse.export(model, tmp_path / "out", values=values)
    value, kernel = weight(load(rounded)), ops.convert_to_numpy(model.get_layer("hidden").kernel)
    assert np.all(value[kernel == 0] == 0) and np.any(value != kernel)
    assert np.allclose(value, kernel, atol=tolerance * np.abs(kernel).max())
    assert np.allclose(answers(rounded, x), answers(exact, x), atol=tolerance * 10)
    assert size(rounded / "assets") < 0.75 * size(exact / "assets")


def test_two_loads_have_variables_of_their_own(tmp_path):
    directory, x = tfsparse.export(pruned(), tmp_path / "out"), examples()
    first, second = load(directory), load(directory)
    expected = bits(first.serve(x))
    del first
    gc.collect()
    assert bits(second.serve(x)) == expected


def test_a_model_without_sparse_weights_is_written_densely(tmp_path):
    served = load(tfsparse.export(testing.small_model(), tmp_path / "out"))
    assert not hasattr(served, "packed") and len(served.variables) > 0


def test_a_saved_model_with_signatures_of_ones_own(tmp_path):
    class Module(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(tf.eye(64) * 3.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 64])])
        def up(self, x):
            return x @ self.weight

        @tf.function(input_signature=[tf.TensorSpec([64], name="vector")])
        def down(self, x):
            return {"y": tf.linalg.matvec(self.weight, x)}

    module, x = Module(), examples()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures={"up": module.up, "down": module.down})
    packed = load(tfsparse.export(tmp_path / "source", tmp_path / "packed"))
    assert len(packed.packed) == 1 and set(packed.signatures) == {"up", "down"}
    assert bits(packed.up(x)) == bits(module.up(x))
    assert bits(packed.signatures["down"](vector=x[0])["y"]) == bits(module.down(x[0])["y"])
    assert (tmp_path / "source" / "saved_model.pb").exists()


class Encoder(tf.Module):
    def __init__(self, parent):
        weight = tf.where(tf.eye(64) > 0, tf.random.stateless_normal((64, 64), (1, 2)), 0.0)
        self.weight, self.steps, self.parent = tf.Variable(weight), tf.Variable(3), parent
        keys = tf.lookup.KeyValueTensorInitializer(["a"], [7])
        self.table = tf.lookup.StaticHashTable(keys, 0)

    @tf.function(input_signature=[tf.TensorSpec([None, 64])])
    def encode(self, x):
        return x @ self.weight

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def __call__(self, word):
        return self.table.lookup(word)


class Modules(tf.Module):
    """Endpoints of sub-modules: in attributes, lists, tuples and dicts, and with a way back to the root."""

    def __init__(self):
        self.encoder, self.heads = Encoder(self), {"left": Encoder(self)}
        self.blocks, self.pair = [Encoder(self), [Encoder(self)]], (Encoder(self), Encoder(self))


MEMBERS = {
    "attribute": lambda root: root.encoder,
    "list": lambda root: root.blocks[0],
    "list in a list": lambda root: root.blocks[1][0],
    "tuple": lambda root: root.pair[1],
    "dict": lambda root: root.heads["left"],
    "way back": lambda root: root.encoder.parent.encoder.parent.encoder,
}


def test_endpoints_of_sub_modules_are_kept(tmp_path):
    module, x = Modules(), examples()
    tf.saved_model.save(module, str(tmp_path / "source"))
    packed = load(tfsparse.export(tmp_path / "source", tmp_path / "packed"))
    again = load(tfsparse.export(tmp_path / "packed", tmp_path / "again", dense=True))
    assert len(packed.packed) == 6 and packed.signatures == {} and not hasattr(again, "packed")
    for member in MEMBERS.values():
        for loaded in (packed, again):
            assert bits(member(loaded).encode(x)) == bits(member(module).encode(x))
            assert member(loaded)(tf.constant("a")) == 7 and member(loaded).steps.numpy() == 3
        assert member(packed).weight is next(v for v in packed.packed if v is member(packed).weight)


def test_a_loaded_saved_model_inside_another_keeps_its_signatures(tmp_path):
    root = tf.Module()
    root.inner = load(tfsparse.export(pruned(), tmp_path / "inner", dense=True))
    tf.saved_model.save(root, str(tmp_path / "outer"))
    packed, x = load(tfsparse.export(tmp_path / "outer", tmp_path / "packed")), examples()
    expected = bits(root.inner.serve(x))
    assert len(packed.packed) == 1 and bits(packed.inner.serve(x)) == expected
    assert bits(packed.inner.signatures["serving_default"](pixels=tf.constant(x))["output_0"]) == expected


def test_a_model_trained_on_two_replicas(tmp_path):
    with two_cpu_strategy().scope():
        model = pruned()
        model.compile("sgd", "mse")
    x = examples()
    prune = tfsparse.Prune("constant", sparsity=0.9)
    model.fit(np.tile(x, (8, 1)), np.zeros((24, 3)), batch_size=8, verbose=0, callbacks=[prune])
    served = load(tfsparse.export(model, tmp_path / "out"))
    assert len(served.packed) == 1
    assert np.allclose(served.serve(x), model(x), atol=1e-6)


def test_thresholds_become_zeros(tmp_path):
    model = tfsparse.dst(MODELS["plain"]())
    layer, x = model.get_layer("hidden"), examples()
    layer.own_variables[0].assign(ops.full_like(layer.own_variables[0], 0.15))
    served = load(tfsparse.export(model, tmp_path / "out"))
    assert len(served.packed) == 1
    assert np.allclose(served.serve(x), model.predict(x, verbose=0), atol=1e-6)


def test_the_directory_is_whole_or_absent(tmp_path, monkeypatch):
    model = trained()

    def fail(path, **options):
        path.mkdir(parents=True)
        raise RuntimeError("disk full")

    monkeypatch.setattr(model, "export", fail)
    for dense in (False, True):
        with pytest.raises(RuntimeError, match="disk full"):
            tfsparse.export(model, tmp_path / "out", dense=dense)
    assert list(tmp_path.iterdir()) == []


def test_no_other_files_are_left_behind(tmp_path):
    tfsparse.export(pruned(), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"assets", "fingerprint.pb", "saved_model.pb", "variables"}


def test_nothing_is_logged_about_temporary_directories(tmp_path):
    heard, logger = [], logging.getLogger("tensorflow")
    handler = logging.Handler()
    handler.emit = heard.append
    logger.addHandler(handler)
    level = logger.level
    try:
        logger.setLevel(logging.INFO)
        tfsparse.export(trained(), tmp_path / "out")
        assert not heard and logger.level == logging.INFO
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_existing_path_is_not_overwritten(tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        tfsparse.export(testing.small_model(), tmp_path)


@pytest.mark.parametrize(
    "options, says", [({"values": "int4"}, "values='int4'"), ({"values": "int8", "dense": True}, "dense=True")]
)
def test_options_that_are_refused(options, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        tfsparse.export(testing.small_model(), tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX takes any name")
@pytest.mark.parametrize("layer, model", [("a[", "m"), ("two words", "m"), ("dense", "m[0]"), ("dense", "_m")])
@pytest.mark.parametrize("name", ["out", "out.tflite"])
def test_a_name_that_is_no_scope_of_tensorflow_is_one_sentence(layer, model, name, tmp_path):
    odd = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name=layer)], name=model)
    export = tfsparse.export_tflite if name.endswith(".tflite") else tfsparse.export
    with pytest.raises(ValueError, match="is the name of a layer or model, and TensorFlow cannot name op") as caught:
        export(odd, tmp_path / name)
    assert repr(layer if layer != "dense" else model) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nested_outputs_are_refused_and_their_list_is_exported(tmp_path):
    x = keras.Input((64,), name="pixels")
    hidden = keras.layers.Dense(64)(x)
    model = keras.Model(x, {"hidden": [hidden, {"sign": hidden > 0}]}, name="nested")
    for write, name in ((tfsparse.export, "out"), (tfsparse.export_tflite, "out.tflite")):
        with pytest.raises(ValueError, match=r"'nested' returns lists or dicts inside.*Model\(model.input, model.out"):
            write(model, tmp_path / name)
    served = load(tfsparse.export(keras.Model(model.input, model.outputs), tmp_path / "out"))
    assert [tuple(t.shape) for t in served.serve(examples())] == [(3, 64), (3, 64)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX cannot export states")
def test_a_model_with_states_keeps_the_batch_that_they_have(tmp_path):
    model = keras.Sequential([keras.Input((5, 3), batch_size=1), keras.layers.LSTM(4, stateful=True)])
    served = load(tfsparse.export(model, tmp_path / "out"))
    assert served.serve(np.ones((1, 5, 3), "float32")).shape == (1, 4)


def test_a_fixed_batch_is_open_where_it_is_served(tmp_path):
    """As in what Keras exports."""
    model = keras.Sequential([keras.Input((64,), batch_size=2), keras.layers.Dense(64)])
    served = load(tfsparse.export(model, tmp_path / "out"))
    assert served.serve(np.ones((7, 64), "float32")).shape == (7, 64)


def test_weights_that_are_not_zero_where_their_masks_are_are_refused(tmp_path):
    model = trained()
    kernel = model.get_layer("hidden").kernel
    kernel.assign(ops.ones_like(kernel))
    with pytest.raises(ValueError, match=r"apply_masks\(\)"):
        tfsparse.export(model, tmp_path / "out")
    model.optimizer.apply_masks()
    assert (tfsparse.export(model, tmp_path / "out") / "saved_model.pb").exists()
    assert np.mean(ops.convert_to_numpy(kernel) == 0) == 0.75


def test_a_signature_outlives_the_loaded_object(tmp_path):
    """As that of the dense form does."""
    directory, x = tfsparse.export(pruned(), tmp_path / "out"), examples()
    signature = load(directory).signatures["serving_default"]
    gc.collect()
    assert bits(signature(pixels=tf.constant(x))["output_0"]) == bits(answers(directory, x))


def test_a_packed_model_is_trained_on(tmp_path):
    """Gradients by packed weights are those of the dense form, and a step changes the outputs."""
    model, x = pruned(), tf.constant(examples())
    gradients = []
    for dense in (True, False):
        loaded = load(tfsparse.export(model, tmp_path / str(dense), dense=dense))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = loaded.serve(x)
        variables = sorted(tape.watched_variables(), key=lambda v: v.shape.num_elements())
        gradients.append(tape.gradient(y, [x, *variables]))
    assert len(gradients[1]) == 5 and bits(gradients[0]) == bits(gradients[1])
    assert {id(v) for v in loaded.trainable_variables} == {id(v) for v in variables}
    loaded.packed[0].assign(tf.zeros((64, 64)))
    assert bits(loaded.serve(x)) != bits(y)


def test_a_packed_model_is_frozen_to_constants(tmp_path):
    """What tf2onnx does with a SavedModel."""
    loaded = load(tfsparse.export(pruned(), tmp_path / "out"))
    frozen = convert_to_constants.convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    x = examples()
    assert not frozen.variables and bits(frozen(tf.constant(x))[0]) == bits(loaded.serve(x))


@pytest.mark.parametrize("options", [{}, {"values": "int8"}, {"dense": True}])
@pytest.mark.parametrize("form", [{}, {"dense": True}])
def test_a_directory_is_exported_as_the_model_itself(options, form, tmp_path):
    model, x = pruned(), examples()
    directory = tfsparse.export(model, tmp_path / "directory", **form)
    again = tfsparse.export(directory, tmp_path / "again", **options)
    itself = tfsparse.export(model, tmp_path / "itself", **options)
    assert bits(answers(again, x)) == bits(answers(itself, x))
    assert [f.name for f in sorted(again.glob("assets/*"))] == [f.name for f in sorted(itself.glob("assets/*"))]
    assert set(load(again).signatures) == {"serve", "serving_default"}


def test_what_an_earlier_version_packed_is_refused(tmp_path):
    """Its packed weights were resources, not variables."""
    loaded = load(tfsparse.export(pruned(), tmp_path / "new"))
    del loaded._unpacking
    tf.saved_model.save(loaded, str(tmp_path / "old"))
    for options in ({}, {"values": "int8"}, {"dense": True}):
        with pytest.raises(ValueError, match="old was packed by an earlier version of tfsparse"):
            tfsparse.export(tmp_path / "old", tmp_path / "out", **options)


def test_a_directory_is_exported_into_itself(tmp_path):
    source = tfsparse.export(testing.small_model(), tmp_path / "source", dense=True)
    for dense in (False, True):
        out = tfsparse.export(source, source / str(dense), dense=dense)
        assert not [f for f in out.rglob("*") if f.name.startswith(".tfsparse")] and load(out).variables


@pytest.mark.parametrize(
    "options, line",
    [
        ({}, 'export_tflite(model, "out.tflite").'),
        ({"dense": True}, 'export_tflite(model, "out.tflite").'),
        ({"values": "float16"}, 'export_tflite(model, "out.tflite", values="float16").'),
        ({"values": "int8"}, 'export_tflite(model, "out.tflite", values="int8", representative=x[:200]).'),
    ],
)
def test_the_path_of_a_tflite_file_is_refused(options, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        tfsparse.export(pruned(), "out.tflite", **options)
    assert str(error.value).endswith(f"Write tfsparse.{line}") and not list(tmp_path.iterdir())


def test_the_path_of_a_tflite_file_may_have_capitals(tmp_path):
    with pytest.raises(ValueError, match=r"is the name of a TFLite file"):
        tfsparse.export(pruned(), tmp_path / "out.TFLITE")
    assert list(tmp_path.iterdir()) == []
