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


# ---- what is saved --------------------------------------------------------------------------------------------------

EPOCHS = 5  # of 4 steps: levels are drawn from step 11 on, within the third epoch


def fit(*callbacks):
    keras.utils.set_random_seed(7)
    hidden = [keras.layers.Dense(8), keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), *hidden, keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    prune = tfsparse.Prune(tfsparse.Nested(LEVELS), 0.5, "feather")
    return fixtures.fit_compiled(model, [prune, *callbacks], EPOCHS)


@pytest.fixture(scope="module")
def straight():
    return fit()


def assert_same_bits(variables, others):
    for variable, other in zip(variables, others, strict=True):
        np.testing.assert_array_equal(*numpy([variable, other]), variable.path)


def assert_same_family(model, straight):
    """Weights, statistics, dense weights and masks, and of every level what `at` cuts and measures."""
    assert_same_bits(*([*m.variables, *m.optimizer.variables] for m in (model, straight)))
    for level in LEVELS:
        cuts = [tfsparse.at(m, level, data=fixtures.small_data()[0]) for m in (model, straight)]
        assert_same_bits(*(cut.variables for cut in cuts))


@pytest.mark.parametrize("epoch", [3, *also([2, 4])])
def test_a_resumed_training_has_all_levels_of_the_straight_one(epoch, straight, tmp_path):
    with pytest.raises(fixtures.Interruption):
        fit(keras.callbacks.BackupAndRestore(tmp_path), fixtures.interrupt(epoch))
    assert_same_family(fit(keras.callbacks.BackupAndRestore(tmp_path)), straight)


def test_a_file_has_all_levels_and_one_of_a_cut_has_the_statistics_of_its_level(straight, tmp_path):
    straight.save(tmp_path / "family.keras")
    assert_same_family(keras.models.load_model(tmp_path / "family.keras"), straight)
    means = []
    for level in (0.2, 0.5):
        cut = tfsparse.at(straight, level, data=fixtures.small_data()[0])
        cut.save(tmp_path / "cut.keras")
        assert_same_bits(keras.models.load_model(tmp_path / "cut.keras").variables, cut.variables)
        means.append(numpy([cut.layers[2].moving_mean])[0])
    assert np.max(np.abs(means[0] - means[1])) > 1e-3, "each level has statistics of its own"
