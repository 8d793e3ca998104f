"""What is said before training of targets that whole units miss."""

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import Magnitude
from tfsparse.pruners.reached import Reached, warn_of_missed


def model_of(*widths, inputs=8):
    layers = [keras.layers.Dense(width, name=f"dense_{i}") for i, width in enumerate(widths)]
    model = keras.Sequential([keras.Input((inputs,)), *layers])
    model.compile("sgd", "mse")
    return model


def sentences(said):
    return [str(warning.message) for warning in said if warning.category is UserWarning]


def test_half_a_point_and_an_entry_are_the_limit():
    warn_of_missed(Magnitude(), [Reached("a", 1000, 0.5, 504), Reached("b", 10, 0.55, 5)])
    with pytest.warns(UserWarning, match=r"than this: a: 0.505 instead of 0.5\. "):
        warn_of_missed(Magnitude(), [Reached("a", 1000, 0.5, 505), Reached("b", 10, 0.55, 5)])


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("granularity", "inputs", "width"), [("channel", 8, 1), ("2:4", 3, 8), ((8, 8), 8, 8)])
def test_a_weight_whose_units_cannot_be_pruned_at_all_is_named(granularity, inputs, width, scope):
    model = model_of(width, 16, 16, inputs=inputs)
    pruner = Magnitude(granularity, scope=scope)
    named = rf"dense_0/kernel \({inputs}, {width}\): 0 instead of 0.5, it stays dense"
    with pytest.warns(UserWarning, match=named) as said:
        tfsparse.sparsify(model, "one_cycle", 0.5, pruner, total_steps=2)
    (sentence,) = sentences(said)
    assert sentence.endswith("exclude what is to stay dense.")


def test_what_is_excluded_is_not_named():
    model = model_of(16, 16, 1)
    tfsparse.sparsify(model, "one_cycle", 0.5, Magnitude("channel"), total_steps=2, exclude="dense_2")


ROADS = {
    "Prune": lambda model, **options: model.fit(
        np.ones((4, 8)), np.ones((4, 10)), epochs=2, verbose=0, callbacks=[tfsparse.Prune("one_cycle", **options)]
    ),
    "sparsify": lambda model, **options: tfsparse.sparsify(model, total_steps=2, **options),
    "prune": tfsparse.prune,
    "SparseOptimizer": lambda model, sparsity, pruner: tfsparse.SparseOptimizer(
        "sgd", sparsity=sparsity, pruner=pruner
    ).build(model.trainable_variables),
}


@pytest.mark.parametrize("road", ROADS)
def test_every_road_says_it_once(road):
    pruner = Magnitude("channel", scope="layer")
    with pytest.warns(UserWarning, match=r"dense_0/kernel \(8, 10\): 0.7 instead of 0.65") as said:
        ROADS[road](model_of(10), sparsity=0.65, pruner=pruner)
    assert len(sentences(said)) == 1


def test_targets_of_single_layers_are_among_them_also_those_set_later():
    model = model_of(10, 20)
    pruner = Magnitude("channel", scope="layer")
    with pytest.warns(UserWarning, match="dense_1/kernel .*: 0.9 instead of 0.88"):
        optimizer = tfsparse.sparsify(model, sparsity=0.5, pruner=pruner, total_steps=2, sparsities={"dense_1": 0.88})
    with pytest.warns(UserWarning, match="dense_0/kernel .*: 0.7 instead of 0.65"):
        optimizer.set_sparsity(model.layers[0], 0.65)
