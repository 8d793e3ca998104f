"""Momenta and averages of pruned weights, wherever an optimizer keeps them."""

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import SparseOptimizer, testing
from tfsparse.optimizers import slots

SHAPE = (3, 4)


def kernel(value=None, name="kernel"):
    value = np.random.default_rng(0).normal(size=SHAPE) if value is None else value
    return keras.Variable(np.array(value, "float32"), name=name)


def bias():
    return keras.Variable(np.ones(4, "float32"), name="bias")


def pruned_until_return(inner, *variables, steps=4):
    """Train with a DSD schedule up to the step in which all weights return; give back which weight was pruned."""
    optimizer = SparseOptimizer(inner, tfsparse.DSD(), 0.5, total_steps=steps)
    for step in range(steps):
        optimizer.apply([ops.ones(v.shape) for v in variables], list(variables))
        if step == steps - 2:
            pruned = ops.convert_to_numpy(optimizer.mask(variables[0])) == 0
    assert pruned.any() and not optimizer.num_zeros()
    return pruned


KEPT = {
    "a list parallel to the variables": lambda new: [new(0), new(1)],
    "lists in a dict": lambda new: {"momentum": [new(0), new(1)]},
    "lists in a dict in a list": lambda new: [{"momentum": [new(0), new(1)]}],
    "a tuple of lists": lambda new: ([new(0), new(1)], [new(0), new(1)], [None, None]),
    "as many lists as variables": lambda new: ([new(0), new(1)], [new(0), new(1)]),
    "a dict for each variable": lambda new: [{"m": new(0), "v": new(0)}, {"m": new(1), "v": new(1)}],
    "a dict by path": lambda new: {"kernel": new(0), "bias": new(1)},
    "lists in a dict by path": lambda new: {"kernel": [new(0), new(0)], "bias": [new(1)]},
}


class Keeps(keras.optimizers.SGD):
    """An optimizer that gathers gradients in a structure of its own."""

    def __init__(self, structure):
        super().__init__(0.1)
        self.structure = structure

    def build(self, variables):
        super().build(variables)
        self.kept = self.structure(lambda index: self.add_variable_from_reference(variables[index], "momentum"))

    def update_step(self, gradient, variable, learning_rate):
        for momentum in momenta(self, variable.shape):
            self.assign_add(momentum, gradient)
        super().update_step(gradient, variable, learning_rate)


def momenta(optimizer, shape):
    return [v for v in optimizer.variables if tuple(v.shape) == tuple(shape)]


@pytest.mark.parametrize("structure", KEPT.values(), ids=KEPT)
def test_slots_are_emptied_wherever_they_are_kept(structure):
    inner = Keeps(structure)
    pruned = pruned_until_return(inner, kernel(), bias())
    assert momenta(inner, SHAPE)
    for momentum in momenta(inner, SHAPE):
        np.testing.assert_array_equal(ops.convert_to_numpy(momentum) == 0, pruned)
    for momentum in momenta(inner, (4,)):
        np.testing.assert_array_equal(ops.convert_to_numpy(momentum), 4)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no optimizer of optimizers")
def test_slots_of_optimizers_in_an_optimizer_are_emptied():
    inner = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {"kernel": keras.optimizers.Adagrad(0.1)})
    )
    pruned = pruned_until_return(inner, kernel(), bias())
    (accumulator,) = momenta(inner, SHAPE)
    np.testing.assert_array_equal(ops.convert_to_numpy(accumulator) == np.float32(0.1), pruned)


def fresh(inner, shape):
    """An optimizer of the same config that has seen nothing, built on zeros."""
    new, zeros = type(inner).from_config(inner.get_config()), kernel(np.zeros(shape))
    new.build([zeros])
    return new, zeros


OPTIMIZERS = [
    keras.optimizers.SGD(0.1, momentum=0.9),
    keras.optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    keras.optimizers.Adam(0.1, amsgrad=True),
    keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.25),
    keras.optimizers.Adadelta(0.1),
    keras.optimizers.Adamax(0.1),
    keras.optimizers.Nadam(0.1),
    keras.optimizers.Ftrl(0.1, initial_accumulator_value=0.25),
    keras.optimizers.Lion(0.1),
    keras.optimizers.Adafactor(0.1),
    keras.optimizers.Adagrad(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)),
]


@pytest.mark.parametrize("trained", [False, True], ids=["new optimizer", "trained before"])
@pytest.mark.parametrize("inner", OPTIMIZERS, ids=lambda inner: inner.name)
def test_a_weight_that_returns_has_the_slots_of_a_new_one(inner, trained):
    inner, variable = type(inner).from_config(inner.get_config()), kernel()
    for _ in range(2 if trained else 0):
        inner.apply([ops.ones(SHAPE)], [variable])
    pruned = pruned_until_return(inner, variable)
    new, _ = fresh(inner, SHAPE)
    for slot, initial in zip(inner.variables, new.variables, strict=True):
        if tuple(slot.shape) == SHAPE:
            np.testing.assert_array_equal(ops.convert_to_numpy(slot)[pruned], ops.convert_to_numpy(initial)[pruned])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable)[pruned], 0)


@pytest.mark.parametrize("name", ["Adagrad", "Ftrl"])
def test_the_first_step_of_a_weight_that_returns_is_that_of_a_new_one(name):
    inner, variable = getattr(keras.optimizers, name)(0.1), kernel()
    pruned = pruned_until_return(inner, variable)
    new, zeros = fresh(inner, SHAPE)
    for optimizer, weight in ((inner, variable), (new, zeros)):
        optimizer.apply([ops.ones(SHAPE)], [weight])
    values = ops.convert_to_numpy(variable)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values[pruned], ops.convert_to_numpy(zeros)[pruned], rtol=1e-6)


def test_a_loaded_model_empties_slots_as_the_saved_one(tmp_path):
    x, y = testing.small_data()
    model = testing.small_model()
    inner = keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.25)
    optimizer = SparseOptimizer(inner, tfsparse.DSD(), 0.5, total_steps=16)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_an_optimizer_that_cannot_be_copied_is_taken_to_start_at_zero():
    class NoConfig(keras.optimizers.SGD):
        def __init__(self, needed):
            super().__init__(0.1, momentum=0.9)

    inner, variable = NoConfig("argument"), kernel()
    pruned = pruned_until_return(inner, variable)
    np.testing.assert_array_equal(ops.convert_to_numpy(inner.momentums[0])[pruned], 0)


def test_finding_slots_leaves_no_trace():
    inner, variable = keras.optimizers.Adagrad(0.1), kernel()
    inner.build([variable])
    names = [v.path for v in inner.variables]
    (slot,) = slots.finder(inner, [variable])(variable)
    assert slot.variable.shape == variable.shape and slot.initial == np.float32(0.1) and not slot.is_average
    assert [v.path for v in inner.variables] == names and int(ops.convert_to_numpy(inner.iterations)) == 0
