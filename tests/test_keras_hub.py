"""Networks of KerasHub with random weights: pruned, reported, saved, loaded, exported, and used to generate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfsparse

hub = pytest.importorskip("keras_hub", reason="pip install keras-hub to test with KerasHub")
pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore:.*shuffle=True. was passed")]  # by KerasHub

TRANSFORMER = {"vocabulary_size": 100, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
TOKENS = {"token_ids": np.arange(48, dtype="int32").reshape(4, 12), "padding_mask": np.ones((4, 12), "int32")}
IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
BACKBONES = {
    "bert": (
        lambda: hub.models.BertBackbone(num_heads=2, max_sequence_length=12, **TRANSFORMER),
        TOKENS | {"segment_ids": np.zeros((4, 12), "int32")},
    ),
    "gpt2": (lambda: hub.models.GPT2Backbone(num_heads=2, max_sequence_length=12, **TRANSFORMER), TOKENS),
    "gemma": (
        lambda: hub.models.GemmaBackbone(num_query_heads=2, num_key_value_heads=1, head_dim=8, **TRANSFORMER),
        TOKENS,
    ),
    "vit": (
        lambda: hub.models.ViTBackbone((32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32),
        IMAGES,
    ),
    "resnet": (
        lambda: hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64],
            stackwise_num_blocks=[1],
            stackwise_num_strides=[1],
            block_type="basic_block",
            image_shape=(32, 32, 3),
        ),
        IMAGES,
    ),
}


def outputs(model, x):
    return [np.array(t) for t in keras.tree.flatten(model(x, training=False))]


def kernels_and_others(model):
    """Paths of the weights that are pruned, and of those of rank 2 and more that are not and are no bias of a head."""
    pruned = {id(v) for v in model.optimizer.pruned_variables}
    matrices = [v for v in model.trainable_variables if len(v.shape) > 1 and v.name != "bias"]
    return [v.path for v in matrices if id(v) in pruned], [v.path for v in matrices if id(v) not in pruned]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_pruned_saved_and_exported(name, tmp_path):
    make, x = BACKBONES[name]
    model = make()
    targets = keras.tree.map_structure(lambda t: np.zeros(t.shape, "float32"), model(x))
    model.compile("adam", keras.tree.map_structure(lambda _: "mse", targets))
    model.fit(x, targets, epochs=3, batch_size=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.8)])
    report = tfsparse.report(model)
    assert abs(report.sparsity - 0.8) < 0.005
    kernels, others = kernels_and_others(model)
    assert kernels and [path for path in kernels if "kernel" not in path] == []
    assert [path for path in others if "embedding" not in path] == []
    reasons = {d.weight: d.because for d in report.dense}
    assert all("are pruned only if they are chosen, Prune(sparsities=[(layer." in reasons[path] for path in others)

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert all(np.array_equal(a, b) for a, b in zip(outputs(again, x), outputs(model, x), strict=True))
    served = tf.saved_model.load(str(tfsparse.export(model, tmp_path / "out")))
    results = keras.tree.flatten(served.serve(keras.tree.map_structure(tf.constant, x)))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(results, outputs(model, x), strict=True))


def language_model(name):
    """Compiled, with its training data. The output layer is the transposed token embedding, except in Mixtral."""
    model_class, make = LANGUAGE_MODELS[name]
    model = model_class(make(), preprocessor=None)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), sampler="greedy")
    return model, (TOKENS, np.roll(TOKENS["token_ids"], -1, axis=1))


LANGUAGE_MODELS = {
    "gpt2": (hub.models.GPT2CausalLM, BACKBONES["gpt2"][0]),
    "gemma": (hub.models.GemmaCausalLM, BACKBONES["gemma"][0]),
    "mixtral": (
        hub.models.MixtralCausalLM,
        lambda: hub.models.MixtralBackbone(
            num_query_heads=2, num_key_value_heads=1, num_experts=2, top_k=1, **TRANSFORMER
        ),
    ),
}
PROMPT = {"token_ids": TOKENS["token_ids"], "padding_mask": np.repeat([[1, 1, 1] + [0] * 9], 4, axis=0)}


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # KerasHub loads it uncompiled
@pytest.mark.parametrize(("name", "num_kernels", "num_embeddings"), [("gpt2", 12, 2), ("gemma", 14, 1)])
def test_a_pruned_language_model_generates_saved_and_loaded_too(name, num_kernels, num_embeddings, tmp_path):
    model, data = language_model(name)
    model.fit(*data, epochs=3, batch_size=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.8)])
    kernels, others = kernels_and_others(model)
    assert len(kernels) == num_kernels and len(others) == num_embeddings
    report = tfsparse.report(model)
    assert abs(report.sparsity - 0.8) < 0.005
    assert report.parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)  # what is tied: once
    reasons = [d.because for d in report.dense if d.weight == "token_embedding/embeddings"]
    assert len(reasons) == 1 and reasons[0].startswith("it is tied, token_embedding also computes the output with it; ")

    generated = model.generate(PROMPT, stop_token_ids=None)["token_ids"]
    assert np.array_equal(generated[:, :3], PROMPT["token_ids"][:, :3])
    logits = model({"token_ids": generated, "padding_mask": TOKENS["padding_mask"]})
    assert np.array_equal(generated[:, 3:], np.argmax(logits, axis=-1)[:, 2:-1])

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    again.compile(sampler="greedy")
    assert tfsparse.report(again).kept == report.kept
    assert np.array_equal(again.generate(PROMPT, stop_token_ids=None)["token_ids"], generated)
    served = tf.saved_model.load(str(tfsparse.export(model, tmp_path / "out")))
    results = served.serve(keras.tree.map_structure(tf.constant, TOKENS))
    assert np.allclose(results, model(TOKENS), atol=1e-5)


def test_the_experts_of_a_mixture_are_named_and_pruned_by_the_line_that_names_them():
    model, data = language_model("mixtral")
    line = r"write Prune\(sparsities=\[\('experts', 0.8\)\]\)"
    with pytest.warns(UserWarning, match=f"/experts/expert_feedforward_gate_dense .* stays dense: .*{line}"):
        model.fit(*data, epochs=2, batch_size=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.8)])
    assert {d.weight.rpartition("/")[2] for d in tfsparse.report(model).dense} >= {"expert_feedforward_gate_dense"}
    model, data = language_model("mixtral")
    callback = tfsparse.Prune(sparsity=0.8, sparsities=[("experts", 0.8)])
    model.fit(*data, epochs=2, batch_size=2, verbose=0, callbacks=[callback])
    report = tfsparse.report(model)
    experts = [row.sparsity for row in report.rows if "expert_" in row.weight]
    assert len(experts) == 6 and np.allclose(experts, 0.8, atol=0.001)
    assert {d.weight.rpartition("/")[2] for d in report.dense} == {"embeddings", "reverse_embeddings"}
    assert model.generate(PROMPT, stop_token_ids=None)["token_ids"].shape == (4, 12)


@pytest.mark.filterwarnings("ignore:Skipping variable loading")  # KerasHub freezes layers, which no file says
def test_a_pruned_backbone_is_adapted_by_lora_and_stays_sparse(tmp_path):
    make, x = BACKBONES["gpt2"]
    model = make()
    tfsparse.prune(model, 0.8)
    model.enable_lora(2)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="LoRA has frozen its kernels"):
        tfsparse.sparsify(model, total_steps=4)
    model.fit(x, np.zeros((4, 12, 16), "float32"), epochs=2, verbose=0)
    tfsparse.merge_lora(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert all(np.array_equal(a, b) for a, b in zip(outputs(again, x), outputs(model, x), strict=True))
    assert abs(tfsparse.report(again).sparsity - 0.8) < 0.005
