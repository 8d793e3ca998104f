"""Training with the schedule `Nested`: against a reference, and in everything that all pruners must pass."""

import keras
import numpy as np
import pytest
from keras import ops
from thoroughly import also

import tfsparse
from tfsparse import testing
from tfsparse.testing import devices, fixtures, training

LEVELS, TOTAL = (0.0, 0.2, 0.5), 20
ALWAYS = ["check_resume_from_file", "check_stateless_apply"]  # the others in exhaustive runs


def numpy(values):
    return [np.array(ops.convert_to_numpy(v)) for v in values]


def mask_of(dense, num_pruned):
    mask = np.ones_like(dense)
    mask.ravel()[np.argsort(np.abs(dense).ravel(), kind="stable")[:num_pruned]] = 0
    return mask


def test_steps_equal_the_reference():
    """Straight-through; then once the sparse weights become the dense ones; then only living weights get gradients."""
    random, schedule = np.random.default_rng(0), tfsparse.Nested(LEVELS)
    dense = random.normal(size=(6, 5)).astype("float32")
    w, mask, counts = keras.Variable(dense, name="kernel"), np.ones_like(dense), []
    optimizer = tfsparse.SparseOptimizer(keras.optimizers.SGD(0.1), schedule, 0.5, "feather", total_steps=TOTAL)
    optimizer.build([w])
    for step in range(1, TOTAL + 1):
        gradient = random.normal(size=dense.shape).astype("float32")
        if step == TOTAL // 2 + 1:
            (dense,) = numpy([w])
            assert np.sum(dense == 0) == 15
        optimizer.apply([ops.convert_to_tensor(gradient)], [w])
        dense = dense - np.float32(0.1) * gradient * (mask if step > TOTAL // 2 else 1)
        counts.append(round(0.5 * float(schedule.fraction(step, TOTAL)) * dense.size))
        mask = mask_of(dense, counts[-1])
        np.testing.assert_array_equal(numpy(optimizer.masks)[0], mask)
        np.testing.assert_allclose(numpy(optimizer.mask_state.storage.dense_weights)[0], dense, atol=1e-6)
    assert set(counts[10:]) == {0, 6, 15}


@pytest.mark.parametrize(
    "check",
    [check if check.__name__ in ALWAYS else also([check])[0] for check in testing.checks()],
    ids=lambda check: check.__name__,
)
def test_the_battery_of_pruners_passes_with_this_schedule(check, monkeypatch):
    """Each of its trainings is one of three levels; resuming happens at the step at which levels are drawn first."""

    def prune(schedule, sparsity, pruner, **options):
        return tfsparse.Prune(tfsparse.Nested(LEVELS), sparsity, pruner, **options)

    def optimizer(inner, schedule, *arguments, **options):
        return tfsparse.SparseOptimizer(inner, tfsparse.Nested(LEVELS), *arguments, **options)

    monkeypatch.setattr(fixtures, "Prune", prune)
    monkeypatch.setattr(training, "Prune", prune)
    monkeypatch.setattr(devices, "SparseOptimizer", optimizer)
    check(tfsparse.Feather())
