import keras
import numpy as np
import pytest
import reference
from keras import ops

from tfsparse import SET, Magnitude, RigL, pruners
from tfsparse.masks.topk import num_pruned
from tfsparse.methods.free_tickets.exchange import CyclicExchange
from tfsparse.pruners import DropAndGrow


class GrowsByGradient(DropAndGrow):
    """A pruner of a user's."""

    needs_gradients = True

    def growth(self, gradient, mask, index):
        return ops.cast(gradient, "float32")


def masks(pruner, weight, growth, mask, step, total):
    arrays = [[np.array(a, "float32")] for a in (weight, growth, mask)]
    (mask,) = pruner.at_step(step, total).masks(*arrays, [num_pruned(0.5, np.size(weight))])
    return ops.convert_to_numpy(mask)


def test_golden_four_of_five_are_exchanged_when_the_second_phase_begins():
    """Of 10 entries 5 are kept; the 4 smallest of these give way to the 4 largest gradients."""
    weight = [[5, 4, -3, 2, 1, 0, 0, 0, 0, 0]]
    growth = [[0, 0, 0, 0, 1, 9, 8, -7, 6, 0.5]]
    mask = [[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]]
    pruner = CyclicExchange(RigL(drop_fraction=0.2), exploration=0.5, num_tickets=2)  # phases: 1 to 50, 75, 100
    np.testing.assert_array_equal(masks(pruner, weight, growth, mask, 76, 100), [[1, 0, 0, 0, 0, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(masks(pruner, weight, growth, mask, 75, 100), mask)  # the end of a phase


@pytest.mark.parametrize(
    ("step", "fraction"), [(10, 0.15), (21, 0.3), (30, 0.15), (40, 0), (41, 0.8), (50, 0.15), (61, 0.8), (80, 0)]
)
@pytest.mark.parametrize("make", [RigL, GrowsByGradient])
def test_masks_equal_those_of_the_reference(make, step, fraction):
    """Exploration of 20 of 80 steps and three phases of 20. The first begins without a large exchange."""
    if fraction == 0.3:
        fraction = 0.15 * (1 + np.cos(np.pi / 20))
    random = np.random.default_rng(step)
    mask = (random.random((40, 5)) < 0.5).astype("float32")
    weight, growth = random.normal(size=mask.shape) * mask, random.random(mask.shape)
    expected = reference.drop_and_grow(weight, growth, mask, 0.5, fraction)
    pruner = CyclicExchange(make(end=1.0), exploration=0.25, num_tickets=3)
    np.testing.assert_array_equal(masks(pruner, weight, growth, mask, step, 80), expected)


def test_needs_gradients_as_the_pruner_inside():
    assert CyclicExchange("rigl").needs_gradients and not CyclicExchange("set").needs_gradients


def test_set_grows_other_weights_at_each_update():
    weight, mask = np.ones((20, 20)), np.tri(20)
    pruner = CyclicExchange("set", exploration=0.25, num_tickets=3)
    second, third = (masks(pruner, weight * mask, mask, mask, step, 80) for step in (41, 61))  # two large exchanges
    assert np.any(second != third)


def test_it_is_saved_with_the_pruner_inside():
    pruner = CyclicExchange(SET(granularity="channel", seed=3), 0.25, 2, 0.7)
    assert pruners.get("cyclic_exchange", pruner="rigl") == CyclicExchange(RigL())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pruner))
    assert again == pruner != CyclicExchange("set", 0.25, 2, 0.7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pruner": Magnitude()}, r"pruner=Magnitude\(.*\), which exchanges no weights: expected pruner=tfsparse.RigL"),
        ({"large_fraction": 0}, r"large_fraction=0: expected a fraction in \(0, 1\]"),
        ({"exploration": 1.5}, "CyclicExchange got exploration=1.5"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        CyclicExchange(**options)
