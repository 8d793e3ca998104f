import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import testing
from tfsparse.testing import fixtures

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CALLS = {
    "Prune": lambda model: fixtures.fit_compiled(model, [tfsparse.Prune(sparsity=0.5)]),
    "prune": lambda model: tfsparse.prune(model, 0.5),
    "sparsify": lambda model: tfsparse.sparsify(model, total_steps=4),
    "keep_zeros": tfsparse.keep_zeros,
}


def compiled(model):
    model.compile("sgd", LOSS, run_eagerly=True)
    return model


def quantised(mode):
    model = testing.small_model()
    tfsparse.prune(model, 0.5)
    model.quantize(mode)
    return compiled(model)


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("name", CALLS)
def test_integers_are_refused_with_the_order_to_use(name, mode):
    with pytest.raises(ValueError, match=rf"hidden and 1 more layers of .* \({mode}\), .*prune first, then write "):
        CALLS[name](quantised(mode))


def test_other_layers_are_pruned_if_those_with_integers_are_frozen():
    model = quantised("int8")
    for name in ("hidden", "head"):
        model.get_layer(name).trainable = False
    fixtures.fit_compiled(compiled(model), [tfsparse.Prune(sparsity=0.75)], epochs=1)
    assert model.optimizer.current_sparsity() == 0.75 and len(model.optimizer.masks) == 1


def test_a_model_in_float8_is_pruned():
    model = testing.small_model()
    model.quantize("float8")
    model.compile("sgd", LOSS, jit_compile=False)  # Keras cannot train it eagerly
    fixtures.fit_compiled(model, [tfsparse.Prune(sparsity=0.75)], epochs=1)
    assert tfsparse.report(model).sparsity == 0.75


@pytest.mark.parametrize("name", CALLS)
def test_lora_is_named_where_it_leaves_nothing_to_prune(name):
    model = testing.small_model()
    tfsparse.prune(model, 0.5)
    for layer in ("conv", "hidden", "head"):
        model.get_layer(layer).enable_lora(2)
    with pytest.raises(ValueError, match=r"LoRA has frozen its kernels .* tfsparse.merge_lora\(model\) before"):
        CALLS[name](compiled(model))


def test_beside_lora_what_is_trained_is_pruned():
    model = testing.small_model()
    model.get_layer("hidden").enable_lora(2)
    fixtures.fit_compiled(compiled(model), [tfsparse.Prune(sparsity=0.5)], epochs=1)
    assert model.optimizer.current_sparsity() == 0.5 and len(model.optimizer.masks) == 2
    tfsparse.prune(model, 0.5, sparsities=[(model.get_layer("hidden").lora_kernel_a, 0.25)])
    assert np.sum(np.array(model.get_layer("hidden").lora_kernel_a) == 0) == 32
