import importlib

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse.optimizers import compiled_model
from tfsparse.schedules import Nested
from tfsparse.testing import fixtures

LEVELS = (0.0, 0.5, 0.8, 0.9)
ALL_ALONG = Nested(LEVELS, ramp=0, levels_from=0)
PRUNER = tfsparse.Feather()


def sparsities(schedule, total):
    return schedule.levels[-1] * keras.ops.convert_to_numpy(schedule.fraction(np.arange(1, total + 1), total))


def jit(function):
    if keras.backend.backend() == "jax":
        return importlib.import_module("jax").jit(function)
    return importlib.import_module("tensorflow").function(function, jit_compile=True)


def test_every_round_has_each_level_once_in_another_order():
    rounds = sparsities(ALL_ALONG, 404)[3:-1].reshape(-1, 4)  # of steps 4 to 403; the last is the target
    np.testing.assert_allclose(np.sort(rounds, axis=1), np.tile(LEVELS, (100, 1)), atol=1e-6)
    assert len({tuple(order.round(3)) for order in rounds}) == 24


def test_another_seed_has_another_order():
    other = Nested(LEVELS, ramp=0, levels_from=0, seed=1)
    assert not np.array_equal(sparsities(ALL_ALONG, 40), sparsities(other, 40))


def test_levels_are_drawn_after_a_cubic_ramp_to_the_target():
    steps, values = np.arange(1, 401), sparsities(Nested(LEVELS), 400)
    ramp = 0.9 * (1 - (1 - np.minimum(steps / 120, 1)) ** 3)
    np.testing.assert_allclose(values[:200], ramp[:200], atol=1e-6)
    np.testing.assert_allclose(values[200:-1], sparsities(ALL_ALONG, 400)[200:-1])
    assert Nested()(0.15) == 0.875


@pytest.mark.parametrize(("total", "expected"), [(10, 3), (1000, 300), (3, 0)])
def test_the_step_from_which_levels_are_drawn_is_not_moved_by_round_off(total, expected):
    assert int(Nested(levels_from=0.3).num_target_steps(total)) == expected


@pytest.mark.parametrize("total", [2, 3, 11])
def test_training_ends_at_the_highest_level(total):
    assert [float(Nested(LEVELS).fraction(step, total)) for step in (total, total + 1)] == [1, 1]


def test_a_step_has_the_same_level_alone_among_others_and_compiled():
    schedule, steps = Nested(), np.arange(1, 51)
    together = keras.ops.convert_to_numpy(schedule.fraction(steps, 50))
    alone = [float(schedule.fraction(int(step), 50)) for step in steps]
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    compiled = jit(lambda step: schedule.fraction(step, 50))
    np.testing.assert_allclose(compiled(keras.ops.convert_to_tensor(steps)), together, rtol=1e-6)


def test_masks_of_training_have_the_sparsity_of_the_step():
    counted = []

    def count(model):
        masks = [mask for _, mask in compiled_model.masks(model)]
        counted.append(sum(fixtures.num_zeros(m) for m in masks) / sum(np.size(m) for m in fixtures.to_arrays(masks)))

    prune = tfsparse.Prune(Nested(LEVELS), 0.9, PRUNER)
    model = fixtures.fit(PRUNER, epochs=6, prune=prune, callbacks=[fixtures.AfterEveryStep(count)])
    np.testing.assert_allclose(counted, sparsities(Nested(LEVELS), 24), atol=2e-3)  # of 700 entries
    fixtures.assert_target(model, PRUNER, 0.9)


@pytest.mark.parametrize(
    "levels", [(0.5,), (0.9, 0.5), (0.5, 0.5), (0.5, 1.0), (-0.1, 0.5), 0.5, ("a", "b"), (0.5, float("nan"))]
)
def test_levels_must_be_ascending_sparsities(levels):
    with pytest.raises(ValueError, match=r"expected at least two ascending sparsities in \[0, 1\)"):
        Nested(levels)


@pytest.mark.parametrize(
    "options", [{"ramp": 0.6}, {"ramp": float("nan")}, {"ramp": 0.3, "levels_from": 1.0}, {"seed": -1}, {"seed": 0.5}]
)
def test_wrong_options_are_errors(options):
    with pytest.raises(ValueError, match=f"Nested got {next(iter(options))}="):
        Nested(**options)


@pytest.mark.parametrize("make", [tfsparse.Prune, lambda *args: tfsparse.SparseOptimizer("sgd", *args)])
def test_the_target_must_be_the_last_level_and_the_pruner_keep_dense_weights(make):
    with pytest.raises(ValueError, match=r"sparsity=0.5, but the last level of .* is 0.9"):
        make(Nested(LEVELS), 0.5, PRUNER)
    with pytest.raises(ValueError, match=r"Magnitude\(.*write pruner=\"feather\""):
        make(Nested(LEVELS), 0.9, "magnitude")
