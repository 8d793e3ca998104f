"""Models of other roads than Keras 3 on TensorFlow are exported as plain models."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.small_models import xla_modules
from tensorflow.core.protobuf import saved_model_pb2

import tfsparse

ON_JAX = """
import pathlib, sys
import numpy as np
import tfsparse
from export.small_models import examples, pruned, xla_modules
from tensorflow.core.protobuf import saved_model_pb2
from tfsparse.backend import keras_internals
from tfsparse.export import jax_modules

model, x = pruned(), examples()
folder = pathlib.Path(sys.argv[1])
np.save(folder / "x.npy", x)
np.save(folder / "y.npy", model.predict(x, verbose=0))
tfsparse.export(model, folder / "out")
keras_internals.newest_readable_xla_module = lambda: 9  # as TensorFlow before 2.20
tfsparse.export(model, folder / "old", dense=True)

file = folder / "old" / "saved_model.pb"  # as if JAX were newer
content = saved_model_pb2.SavedModel.FromString(file.read_bytes())
for module in xla_modules(content):
    module.attr["module"].s = module.attr["module"].s[:9] + bytes(9)
file.write_bytes(content.SerializeToString())
try:
    jax_modules.check_runs(folder / "old")
except ValueError as error:
    (folder / "error.txt").write_text(str(error))
"""


BEFORE_TFMOT = """
import pathlib, sys
import tf_keras
import tfsparse

model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)])
assert "tfsparse.tfmot" not in sys.modules
assert (tfsparse.export(model, pathlib.Path(sys.argv[1]) / "out") / "saved_model.pb").is_file()
"""


def run(script, folder, **environment):
    """Run a script in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent.parent)} | environment
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_model_of_tf_keras_before_tfsparse_tfmot_was_imported(tmp_path):
    pytest.importorskip("tensorflow_model_optimization")
    run(BEFORE_TFMOT, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install 'tfsparse[jax]' to test on JAX")
def test_a_model_of_jax(tmp_path):
    run(ON_JAX, tmp_path, KERAS_BACKEND="jax")
    served = tf.saved_model.load(str(tmp_path / "out"))
    assert len(served.packed) == 1
    assert np.allclose(served.serve(np.load(tmp_path / "x.npy")), np.load(tmp_path / "y.npy"), atol=1e-6)
    assert module_version(tmp_path / "old") == 9
    unreadable = "cannot run what JAX .* exports. Install a newer TensorFlow or an older JAX"
    assert re.search(unreadable, (tmp_path / "error.txt").read_text())


def halfway(optimizer="sgd"):
    """A Keras 3 model after 4 of 16 steps to a sparsity of 0.9."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)], name="net")
    model.compile(optimizer, "mse")
    tfsparse.sparsify(model, "polynomial", 0.9, total_steps=16)
    x, _ = batches()
    model.fit(x, x, batch_size=8, verbose=0)
    return model


def test_a_model_whose_schedule_has_not_ended_is_exported_with_a_warning(tmp_path):
    model, (x, _) = halfway(), batches()
    expected = r"'net' is from before the target was reached: .* at step 4 of 16, 0\.\d+ .* is 0.9\. It is exported"
    for write, name in ((tfsparse.export, "out"), (tfsparse.export_tflite, "out.tflite")):
        with pytest.warns(UserWarning, match=expected):
            write(model, tmp_path / name)
    model.fit(x, x, batch_size=8, epochs=3, verbose=0)
    assert (tfsparse.export(model, tmp_path / "ended") / "saved_model.pb").is_file()


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("is_scaled", [True, False])
def test_weights_that_were_written_after_pruning_are_refused_with_the_line_that_mends_them(
    is_scaled, trainable, tmp_path
):
    model = halfway(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()) if is_scaled else "sgd")
    kernel = model.layers[0].kernel
    kernel.assign(keras.ops.ones_like(kernel))
    model.trainable = trainable
    line = f"model.optimizer{'.inner_optimizer' * is_scaled}.apply_masks()"
    with pytest.raises(ValueError, match=f"kernel is not zero where .* in .* entries: .*Call {re.escape(line)}"):
        tfsparse.export(model, tmp_path / "out")
    exec(line)
    with pytest.warns(UserWarning, match="It is exported as it is"):
        tfsparse.export(model, tmp_path / "out")


def test_a_model_of_tf_keras_whose_schedule_has_not_ended_is_exported_with_a_warning(tf_keras, tmp_path):
    stock = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    schedule = stock.PolynomialDecay(0.1, 0.9, 0, 16, frequency=1)
    model = tfsparse.tfmot.prune_low_magnitude(dense_model(tf_keras), schedule)
    model.compile("sgd", "mse")
    x, y = batches()
    model.fit(x, y, batch_size=8, verbose=0)
    with pytest.warns(UserWarning, match="is at step 4 of .*, from before the target was reached: .* zero"):
        tfsparse.export(model, tmp_path / "out")


def module_version(directory):
    """The version of the only module of JAX in a SavedModel."""
    content = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    (version,) = {module.attr["version"].i for module in xla_modules(content)}
    return version


@pytest.fixture(scope="module")
def tf_keras():
    return pytest.importorskip("tf_keras")


def exported(model, folder):
    served = tf.saved_model.load(str(tfsparse.export(model, folder / "out")))
    assert len(served.packed) == 1 and set(served.signatures) == {"serve", "serving_default"}
    return served


def dense_model(tf_keras):
    tf_keras.utils.set_random_seed(0)
    layers = [tf_keras.Input((64,), name="pixels"), tf_keras.layers.Dense(64, name="hidden"), tf_keras.layers.Dense(3)]
    return tf_keras.Sequential(layers)


def batches():
    random = np.random.default_rng(0)
    return random.normal(size=(32, 64)).astype("float32"), random.normal(size=(32, 3))


@pytest.mark.parametrize("wrap", ["ours", "stock"])
def test_wrappers_are_removed_and_pruned_weights_are_zero(wrap, tf_keras, tmp_path, capsys):
    """TFMOT's own wrappers leave weights dense after the last step; exported weights are multiplied by their masks."""
    stock = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    pruning = {"ours": tfsparse.tfmot, "stock": stock}[wrap].prune_low_magnitude
    model = pruning(dense_model(tf_keras), stock.ConstantSparsity(0.9, 0, frequency=1))
    model.compile("sgd", "mse")
    callbacks = [stock.UpdatePruningStep()] if wrap == "stock" else []
    x, y = batches()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=callbacks)
    served = exported(model, tmp_path)
    assert capsys.readouterr().out == ""
    kernel = served.packed[0].numpy()
    assert np.mean(kernel == 0) == pytest.approx(0.9, abs=1e-3)
    assert np.allclose(served.serve(x), tfsparse.tfmot.strip_pruning(model).predict(x, verbose=0), atol=1e-6)


def test_thresholds_of_tf_keras_become_zeros(tf_keras, tmp_path):
    model = tfsparse.tfmot.dst(dense_model(tf_keras))
    threshold = model.get_layer("hidden").own_variables[0]
    threshold.assign(tf.fill(threshold.shape, 0.2))
    x, _ = batches()
    assert np.allclose(exported(model, tmp_path).serve(x), model.predict(x, verbose=0), atol=1e-6)


def test_a_plain_tf_keras_model(tf_keras, tmp_path):
    model, (x, _) = dense_model(tf_keras), batches()
    kernel = model.layers[0].kernel
    kernel.assign(tf.where(tf.abs(kernel) > 0.18, kernel, 0.0))
    assert np.allclose(exported(model, tmp_path).serve(x), model.predict(x, verbose=0), atol=1e-6)
