import json

import keras
import pytest

from tfsparse import Magnitude, testing
from tfsparse.pruners import selection


def test_only_kernels_are_prunable():
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(10, 8)(inputs)
    x = keras.layers.Conv1D(4, 3)(x)
    x = keras.layers.SeparableConv1D(4, 2)(x)
    x = keras.layers.LayerNormalization()(keras.layers.BatchNormalization()(x))
    x = keras.layers.LSTM(4)(x)
    x = keras.layers.EinsumDense("ab,bc->ac", 3, bias_axes="c")(x)
    model = keras.Model(inputs, x)
    names = [v.name for v in model.trainable_variables if selection.is_prunable(v)]
    assert names == ["kernel", "depthwise_kernel", "pointwise_kernel", "kernel", "recurrent_kernel", "kernel"]


def test_kernels_of_layers_and_variables():
    model = testing.small_model()
    hidden = model.get_layer("hidden")
    assert selection.kernels(hidden) == selection.kernels(hidden.kernel) == [hidden.kernel]
    assert len(selection.kernels(model)) == 3
    with pytest.raises(ValueError, match="nothing in it can be pruned"):
        selection.kernels(keras.layers.ReLU())


def test_overrides_survive_saving():
    model = testing.small_model()
    overrides = selection.Overrides(dense_names=["head"])
    overrides.set(model.get_layer("hidden").kernel, 0.5)
    pruner = Magnitude(scope="layer")
    targets = overrides.resolve(model.trainable_variables, pruner, 0.75)
    again = selection.Overrides.from_config(overrides.get_config())
    assert targets == again.resolve(model.trainable_variables, pruner, 0.75) == {0: 27, 2: 256}


def test_bounds_survive_saving_and_are_those_of_the_choice():
    model, overrides = testing.small_model(), selection.Overrides()
    choice = selection.Choice({"hidden": (0.5, 0.9), "head": 0.25}, max_sparsity=0.95)
    for variable, target in choice.resolve(model):
        overrides.set(variable, target)
    overrides.resolve(model.trainable_variables, Magnitude(), 0.8)
    again = selection.Overrides.from_config(json.loads(json.dumps(overrides.get_config())))
    for found in (overrides, again):
        assert [found.bounds(i) for i in (0, 2, 4)] == [(0.0, 0.95), (0.5, 0.9), None]
        assert found.has_own_sparsity(4) and not found.has_own_sparsity(2)


def resolved(sparsity, pruner=None, **bounds):
    model, overrides = testing.small_model(), selection.Overrides()
    for variable, target in selection.Choice(**bounds).resolve(model):
        overrides.set(variable, target)
    return overrides.resolve(model.trainable_variables, pruner or Magnitude(), sparsity)


def test_bounds_that_contradict_the_target_are_an_error():
    for bounds in ({"min_sparsity": 0.9}, {"max_sparsity": 0.5}):
        with pytest.raises(ValueError, match=r"sparsity=0.8 of all weights together is not within the bounds"):
            resolved(0.8, **bounds)
    with pytest.raises(ValueError, match=r"scope='layer'.* prunes each weight to its own target.*Magnitude\(\)"):
        resolved(0.8, Magnitude(scope="layer"), min_sparsity=0.5)
    for wrong in ((0.9, 0.5), (0.5,), (0.2, 1.5), ("a", 1)):
        with pytest.raises(ValueError, match=r"expected the least and the largest fraction of zeros"):
            resolved(0.8, sparsities={"head": wrong})


def test_overrides_of_older_files_load():
    overrides = selection.Overrides.from_config({"places": {"2": 0.5}, "words": ["head"]})
    assert (overrides.sparsities, overrides.dense_names) == ({2: 0.5}, ["head"])


def dense_model(units=50):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((17,)), keras.layers.Dense(units, name="a"), keras.layers.Dense(31, name="b")])


def test_a_global_target_is_exact_over_all_weights():
    model = dense_model()
    targets = selection.Overrides().resolve(model.trainable_variables, Magnitude(scope="global"), 0.777)
    assert list(targets) == [0, 2] and sum(targets.values()) == round(0.777 * (17 * 50 + 50 * 31))


def test_what_whole_units_reach_is_said_before_training():
    variables = dense_model().trainable_variables
    with pytest.warns(UserWarning, match=r"a/kernel \(17, 50\): 0.3976 instead of 0.5") as said:
        selection.Overrides().resolve(variables, Magnitude((16, 16), "layer"), 0.5)
    assert len(said) == 1
    with pytest.warns(UserWarning, match=r"a/kernel \(17, 50\): 0.4706 instead of 0.5; .*b/kernel .*0.48 instead"):
        selection.Overrides().resolve(variables, Magnitude("2:4", "layer"), 0.5)
    with pytest.warns(UserWarning, match="all weights together: 0.4767 instead of 0.5"):
        selection.Overrides().resolve(variables, Magnitude("2:4"), 0.5)


def test_nothing_is_said_within_half_a_point_or_half_an_entry():
    variables = dense_model(3).trainable_variables
    for pruner in (Magnitude((1, 4), "layer"), Magnitude(scope="layer"), Magnitude()):
        selection.Overrides().resolve(variables, pruner, 0.9)


class Huge:
    """Stands for a variable that would not fit into memory."""

    trainable, name, path, shape = True, "kernel", "huge/kernel", (2**16, 2**15)


def test_a_weight_that_int32_cannot_count_is_refused_unless_it_stays_dense():
    with pytest.raises(ValueError, match=r"huge/kernel has 2,147,483,648 entries.*exclude=\[layer\]"):
        selection.Overrides().resolve([Huge()], Magnitude(), 0.9)
    assert selection.Overrides(dense_names=["huge"]).resolve([Huge()], Magnitude(), 0.9) == {}
    half = type("Half", (Huge,), {"shape": (2**15, 2**15)})
    targets = selection.Overrides().resolve([half(), half(), half()], Magnitude(), 0.9)
    assert sum(targets.values()) == round(0.9 * 3 * 2**30)
