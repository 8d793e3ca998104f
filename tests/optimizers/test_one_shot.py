import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import pruners, testing

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_prune_once_is_exact_and_leaves_the_optimizer_alone():
    model = testing.small_model()
    model.compile("adam", LOSS)
    optimizer = model.optimizer
    head = model.get_layer("head")
    tfsparse.prune(model, 0.8, exclude=[head], sparsities={model.get_layer("hidden"): 0.5})
    zeros = {v.path.split("/")[-2]: int(np.sum(ops.convert_to_numpy(v) == 0)) for v in model.trainable_variables[::2]}
    assert zeros == {"conv": round(0.8 * 36), "hidden": 256, "head": 0}
    assert model.optimizer is optimizer


def test_sparsity_of_a_single_variable():
    model = testing.small_model()
    tfsparse.prune(model, 0.8, sparsities=[(model.get_layer("hidden").kernel, 0.5)])
    assert int(np.sum(ops.convert_to_numpy(model.get_layer("hidden").kernel) == 0)) == 256


def test_prune_once_globally():
    model = testing.small_model()
    tfsparse.prune(model, 0.5, tfsparse.Magnitude(scope="global"))
    kernels = [ops.convert_to_numpy(v) for v in model.trainable_variables[::2]]
    assert sum(int(np.sum(k == 0)) for k in kernels) == round(0.5 * 580)
    smallest_kept = min(np.abs(k[k != 0]).min() for k in kernels)
    assert smallest_kept >= 0


def test_a_pruner_that_scores_gradients_needs_data():
    with pytest.raises(ValueError, match=r"none outside training. Write prune\(model, 0.5, pruner, data="):
        tfsparse.prune(testing.small_model(), 0.5, "saliency")


@pytest.mark.parametrize("name", ["saliency", "taylor"])
def test_gradients_of_the_data_are_scored_once(name):
    masks = []
    for pruner in (name, pruners.SNIP(rounds=1)):  # the same order for single weights
        model = testing.small_model()
        model.compile("sgd", LOSS)
        tfsparse.prune(model, 0.7, pruner, data=testing.small_data())
        masks.append([ops.convert_to_numpy(v) != 0 for v in model.trainable_variables])
    assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))


def test_masks_of_initialisation_stay_in_training():
    model = testing.small_model()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
    x, y = testing.small_data()
    tfsparse.prune(model, 0.8, pruners.SNIP(rounds=3), data=(x, y), exclude="head")
    masks = [ops.convert_to_numpy(v) != 0 for v in model.trainable_variables[::2]]
    assert [int(np.sum(~m)) for m in masks][2] == 0 and sum(np.sum(~m) for m in masks) == round(0.8 * (36 + 512))
    tfsparse.keep_zeros(model)
    model.fit(x, y, epochs=2, verbose=0)
    for kernel, mask in zip(model.trainable_variables[::2], masks, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(kernel) != 0, mask)


def test_data_without_use_is_refused():
    with pytest.raises(ValueError, match="scores the weights alone, and data was given"):
        tfsparse.prune(testing.small_model(), 0.5, data=testing.small_data())


def _ticket_pair():
    model = testing.small_model()
    initial = model.get_weights()
    pruned = keras.models.clone_model(model)
    pruned.set_weights([2 * w + 1e-3 for w in initial])
    tfsparse.prune(pruned, 0.75, tfsparse.Magnitude(scope="layer"))
    return model, initial, pruned


@pytest.mark.parametrize("as_arrays", [False, True])
def test_a_winning_ticket_is_the_beginning_with_the_mask_of_the_end(as_arrays):
    model, initial, pruned = _ticket_pair()
    masks = [(v.numpy() != 0).astype("float32") for v in pruned.trainable_variables if v.name == "kernel"]
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.set_weights([w + 1 for w in initial])
    tfsparse.winning_ticket(model, initial, masks if as_arrays else pruned)
    for weight, first, zeros in zip(model.get_weights(), initial, pruned.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, np.where(zeros != 0, first, 0) if weight.ndim > 1 else first)
    x, y = testing.small_data()
    model.fit(x, y, epochs=2, verbose=0)
    for weight, zeros in zip(model.get_weights(), pruned.get_weights(), strict=True):
        if weight.ndim > 1:
            np.testing.assert_array_equal(weight == 0, zeros == 0)
    assert tfsparse.report(model).rows[0].target == tfsparse.report(model).rows[0].sparsity


def test_what_is_no_ticket_is_refused():
    model, initial, pruned = _ticket_pair()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"initial_weights holds 1 arrays, expected \d+"):
        tfsparse.winning_ticket(model, initial[:1], pruned)
    masks = [v.numpy() for v in pruned.trainable_variables if v.name == "kernel"]
    with pytest.raises(ValueError, match=r"mask holds one of shape \(2, 2\), expected .* of"):
        tfsparse.winning_ticket(model, initial, [np.ones((2, 2)), *masks[1:]])
    with pytest.raises(ValueError, match="leaves no weight of .* alive"):
        tfsparse.winning_ticket(model, initial, [np.zeros_like(masks[0]), *masks[1:]])
    model.optimizer.iterations.assign(3)
    with pytest.raises(ValueError, match="has trained already"):
        tfsparse.winning_ticket(model, initial, pruned)


@pytest.mark.parametrize("frozen", ["all of the mask's model", "a layer of the ticket"])
def test_frozen_kernels_of_a_ticket_are_masked_too(frozen):
    model, initial, pruned = _ticket_pair()
    if frozen == "a layer of the ticket":
        model.layers[0].trainable = model.get_layer("hidden").trainable = False
    else:
        pruned.trainable = False
    model.compile("sgd", LOSS)
    tfsparse.winning_ticket(model, initial, pruned)
    x, y = testing.small_data()
    model.fit(x, y, epochs=2, verbose=0)
    for weight, zeros in zip(model.get_weights(), pruned.get_weights(), strict=True):
        if weight.ndim > 1:
            np.testing.assert_array_equal(weight == 0, zeros == 0)


def test_prune_once_by_name():
    model = testing.small_model()
    tfsparse.prune(model, 0.5, exclude="head", sparsities={"conv": 0.75})
    zeros = [int(np.sum(ops.convert_to_numpy(v) == 0)) for v in model.trainable_variables[::2]]
    assert zeros == [27, 256, 0]


def test_a_tf_keras_model_is_told_of_its_conversion():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(8,))])
    with pytest.raises(TypeError, match=r"model of tf_keras .* write tfsparse.prune\(tfsparse.tfmot.to_keras3\(model"):
        tfsparse.prune(model, 0.5)
