"""Files that strangers wrote, or that are damaged: they are read, or one ValueError names them."""

import fuzzing
import keras
import numpy as np
import pytest
import tensorflow as tf
from export.sparse_arrays import sparse
from tensorflow.lite.python import schema_py_generated as schema

import tfsparse
from tfsparse.export import tflite, tflite_file

layers = keras.layers


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A file with one weight that runs sparse, one that is unpacked, and a dense one."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(64, activation="relu")(x)))
    pruner = tfsparse.Magnitude(granularity={"dense": (1, 4), "conv": "weight"})
    tfsparse.prune(model, 0.9, pruner, exclude=[model.layers[-1]])
    path = tmp_path_factory.mktemp("file") / "whole.tflite"
    file = tfsparse.export_tflite(model, path)
    assert {(t.stored, t.runs) for t in file.tensors} == {("sparse", "sparse"), ("sparse", "dense"), ("dense", "dense")}
    return path.read_bytes()


def rewritten(content, change):
    """The file after a change of its objects."""
    model = tflite_file._read(content)
    change(model)
    return tflite_file._written(model)


def densify_reads_itself(model):
    graph = model.subgraphs[0]
    unpack = next(o for o in graph.operators if tflite_file._operation(model, o) in tflite_file._PASSED_ON)
    unpack.outputs = unpack.inputs


def unknown_operation(model):
    model.operatorCodes[0].builtinCode = 9999


def no_graph(model):
    model.subgraphs = None


def operation_without_inputs(model):
    model.subgraphs[0].operators[0].inputs = None


def buffer_that_is_missing(model):
    model.subgraphs[0].tensors[0].buffer = 99


def test_what_is_no_tflite_file_is_named(content, tmp_path):
    texts = {"page": b"<!DOCTYPE html><html></html>", "empty": b"", "short": b"\0\0", "cut": content[:3000]}
    said = {"page": "begins with b'<!DOCTYPE html>", "empty": "it is empty", "short": "begins with", "cut": "damaged"}
    for name, text in texts.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(text)
        with pytest.raises(ValueError, match=rf"^Cannot read .*{name}\.tflite as a TFLite file.*{said[name]}"):
            tfsparse.inspect_tflite(path)


@pytest.mark.parametrize("seed", fuzzing.SEEDS)
def test_of_a_damaged_file_the_weights_are_shown_or_its_name(content, tmp_path, seed):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(fuzzing.damaged(content, seed))
    try:
        assert str(tfsparse.inspect_tflite(path))
    except ValueError as error:
        assert "theirs.tflite" in str(error)


DAMAGES = [densify_reads_itself, unknown_operation, no_graph, operation_without_inputs, buffer_that_is_missing]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_whose_parts_do_not_belong_together_is_named(content, tmp_path, damage):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(rewritten(content, damage))
    with pytest.raises(ValueError, match=r"Cannot read .*theirs\.tflite"):
        tfsparse.inspect_tflite(path)


def test_a_name_in_another_encoding_is_no_damage(content, tmp_path):
    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = "größe".encode("latin1")

    path = tmp_path / "latin1.tflite"
    path.write_bytes(rewritten(content, rename))
    assert {tensor.name for tensor in tfsparse.inspect_tflite(path).tensors} == {"gr\ufffd\ufffde"}


def test_signatures_are_listed_with_their_graphs(content):
    def add(model):
        model.subgraphs.append(model.subgraphs[0])
        model.signatureDefs.append(schema.SignatureDefT())
        model.signatureDefs[-1].signatureKey, model.signatureDefs[-1].subgraphIndex = b"second", 1

    assert tflite_file.signatures(content) == {"serving_default": 0}
    assert tflite_file.signatures(rewritten(content, add)) == {"serving_default": 0, "second": 1}


class TwoGraphs(tf.Module):
    """Two signatures that read one weight."""

    def __init__(self):
        self.kernel = tf.Variable(sparse((64, 64)))

    @tf.function(input_signature=[tf.TensorSpec([1, 64])])
    def plain(self, x):
        return {"y": x @ self.kernel}

    @tf.function(input_signature=[tf.TensorSpec([1, 64])])
    def positive(self, x):
        return {"y": tf.nn.relu(x @ self.kernel)}


def test_a_weight_that_two_graphs_share_stays_shared(tmp_path):
    module = TwoGraphs()
    tf.saved_model.save(module, str(tmp_path), {"plain": module.plain, "positive": module.positive})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["plain", "positive"])
    dense = converter.convert()
    small = tflite_file.sparsify(dense)
    assert [t.stored for t in tflite_file.tensors(small)] == ["sparse"] * 2
    assert len({graph.tensors[i].buffer for graph, i in weights_of(small)}) == 1
    x = np.random.default_rng(1).normal(size=(1, 64)).astype("float32")
    for name in ("plain", "positive"):
        ours, theirs = (tflite.interpreter(c).get_signature_runner(name)(x=x)["y"] for c in (small, dense))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def weights_of(content):
    model = tflite_file._read(content)
    return [(graph, i) for graph in model.subgraphs for i, _ in tflite_file._weights(model, graph)]
