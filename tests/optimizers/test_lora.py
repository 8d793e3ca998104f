import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse

INPUTS = np.random.default_rng(0).integers(0, 6, (16, 8))
TARGETS = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


def adapted(sparsity=0.5):
    """A model with every kind of layer that has LoRA, pruned, adapted and trained; its embedding is dense."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,), dtype="int32"),
            keras.layers.Embedding(6, 4, name="embedding"),
            keras.layers.Conv1D(8, 3, activation="relu", name="conv"),
            keras.layers.EinsumDense("abc,cd->abd", (6, 4), name="einsum"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="head"),
        ]
    )
    tfsparse.prune(model, sparsity)
    for name in ("embedding", "conv", "einsum", "head"):
        model.get_layer(name).enable_lora(2, lora_alpha=3)
    return trained(model)


def trained(model):
    model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=True)
    model.fit(INPUTS, TARGETS, epochs=3, verbose=0)
    return model


def kernels(model):
    """What each layer computes with, and what its variable holds."""
    layers = {layer.name: layer for layer in model.layers if getattr(layer, "lora_enabled", False)}
    used = {name: getattr(layer, "embeddings" if name == "embedding" else "kernel") for name, layer in layers.items()}
    held = {n: next(v for v in layer.weights if v.name in ("kernel", "embeddings")) for n, layer in layers.items()}
    return [{name: np.array(ops.convert_to_numpy(v)) for name, v in values.items()} for values in (used, held)]


def sparsity_of_file(model, path):
    model.save(path)
    return tfsparse.report(keras.models.load_model(path)).sparsity


def test_merging_keeps_the_zeros_of_the_kernels_in_the_file(tmp_path):
    model = adapted()
    used, held = kernels(model)
    assert sparsity_of_file(model, tmp_path / "filled.keras") < 0.25  # Keras alone
    tfsparse.merge_lora(model)
    for name, merged in kernels(model)[0].items():
        expected = used[name] * (held[name] != 0)
        np.testing.assert_allclose(merged, expected, atol=1e-6)
        assert np.any(np.abs(expected - held[name]) > 1e-3), "nothing was learnt"
    np.testing.assert_array_equal(*[kernels(model)[i]["einsum"] for i in (0, 1)])
    assert sparsity_of_file(model, tmp_path / "merged.keras") == 0.5
    again = keras.models.load_model(tmp_path / "merged.keras")
    np.testing.assert_array_equal(again.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0))


def test_a_dense_kernel_is_merged_whole():
    model = adapted(sparsity=0.0)
    before = model.predict(INPUTS, verbose=0)
    tfsparse.merge_lora(model)
    np.testing.assert_allclose(model.predict(INPUTS, verbose=0), before, atol=1e-5)


def test_an_adapter_trains_on_after_merging():
    model = adapted()
    tfsparse.merge_lora(model)
    zeros = kernels(model)[1]["head"] == 0
    trained(model)
    assert all(np.any(ops.convert_to_numpy(layer.lora_kernel_b)) for layer in model.layers[1:2] + model.layers[-1:])
    tfsparse.merge_lora(model)
    np.testing.assert_array_equal(kernels(model)[0]["head"] == 0, zeros)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="export of JAX models has tests of its own")
def test_export_keeps_the_zeros_without_merging(tmp_path):
    import tensorflow as tf

    model = adapted()
    served = tf.saved_model.load(str(tfsparse.export(model, tmp_path / "out", dense=True)))
    held = [v for v in served.variables if v.name.endswith("/kernel:0")]
    zeros = {v.name.split("/")[-2]: np.sum(v.numpy() == 0) for v in held}
    assert zeros == {name: np.sum(held == 0) for name, held in kernels(model)[1].items() if name != "embedding"}
    answers = served.serve(tf.constant(INPUTS, "int32"))
    np.testing.assert_allclose(answers, model.predict(INPUTS, verbose=0), atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*shuffle=True. was passed")  # Keras says so of every tf.data.Dataset
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough for a document")
def test_the_lines_of_the_guide_keep_the_zeros(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = keras.layers.Dense(8, name="hidden")
    model = keras.Sequential([keras.Input((8,)), base, keras.layers.Dense(2, name="head")])
    train = tf_data(INPUTS.astype("float32"), TARGETS)
    names = {"base": base, "model": model, "loss": "mse", "train": train, "keras": keras, "tfsparse": tfsparse}
    page = (pathlib.Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    for heading in ("Frozen layers, then unfrozen", "Keep what is zero", "LoRA and quantisation"):
        exec(re.search(rf"## {heading}\n.*?```python\n(.*?)```", page, re.DOTALL)[1], names)
        assert tfsparse.report(names["model"]).sparsity == 0.8, heading
        names["model"].save("pruned.keras")
    assert tfsparse.report(keras.models.load_model("tuned.keras")).sparsity == 0.8


def tf_data(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


def test_a_model_without_lora_is_refused():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="has LoRA, so there is nothing to merge"):
        tfsparse.merge_lora(model)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_quantised_kernel_is_refused():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="head")])
    model.quantize("int8")
    model.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="head is quantised, .*Merge first"):
        tfsparse.merge_lora(model)


def test_the_report_says_who_trains_an_adapter():
    because = {d.because for d in tfsparse.report(adapted()).dense if "lora_kernel" in d.weight}
    assert len(because) == 1 and "LoRA trains it; model.save fills the zeros" in because.pop()
