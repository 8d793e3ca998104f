import contextlib
import math

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import testing
from tfsparse.backend import replicas
from tfsparse.consistency import checks
from tfsparse.consistency.checks import NextUpdate, check_masks
from tfsparse.consistency.mask_store import HEADER, MaskStore, SyncStats
from tfsparse.testing import fixtures

mirrored_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
STEPS, DUE, ENDS = 12, [1, 4, 7, 10, 12], [4, 8, 12]  # of three epochs with `updates=5`
LOOKS = sorted(step - 1 for step in DUE) + ENDS  # steps done when masks are compared
NAMES = ["conv/kernel", "hidden/kernel", "head/kernel"]


# ---- when -----------------------------------------------------------------------------------------------------------


def calls(due, per_call, batches, makes_step):
    """Whether each call of `per_call` batches was announced, and whether it did update masks."""
    steps, reads = 0, []
    update_is_next = NextUpdate(due, per_call, lambda: reads.append(steps) or steps)
    announced, updated = [], []
    for first in range(0, batches, per_call):
        announced.append(update_is_next())
        before = steps
        steps += sum(makes_step(batch) for batch in range(first, min(first + per_call, batches)))
        updated.append(any(before < step <= steps for step in due))
    return announced, updated, len(reads)


@pytest.mark.parametrize("per_call", [1, 2, 3, 7])
@pytest.mark.parametrize("due", [[1, 5, 9, 12], [12], [3, 4, 30], list(range(1, 41)), [40]])
def test_calls_with_an_update_are_known_after_few_reads(due, per_call):
    announced, updated, reads = calls(due, per_call, 40, lambda batch: True)
    assert announced == updated
    assert reads <= 2 * len(due) + 1


@pytest.mark.parametrize("per_call", [1, 3])
@pytest.mark.parametrize("every", [2, 5])
def test_no_update_is_missed_when_a_batch_makes_no_step(per_call, every):
    for makes_step in (lambda batch: batch % every == every - 1, lambda batch: batch % every > 0 and batch > 20):
        announced, updated, _ = calls([2, 3, 9], per_call, 80, makes_step)
        assert any(updated)
        assert all(a or not u for a, u in zip(announced, updated, strict=True))
        assert not all(announced)


# ---- on one device --------------------------------------------------------------------------------------------------


def test_on_one_device_no_digest_is_computed(monkeypatch):
    monkeypatch.setattr(replicas, "digest", lambda masks: pytest.fail("computed a digest"))
    sync_stats = SyncStats()
    assert check_masks([keras.Variable(np.ones(3)), np.ones(3)], ["a", "b"], sync_stats=sync_stats) == []
    assert sync_stats == SyncStats()


def test_on_divergence_must_be_a_known_choice():
    with pytest.raises(ValueError, match=r"on_divergence='ignore': expected one of 'raise', 'repair'"):
        tfsparse.Prune(on_divergence="ignore")
    assert checks.CHOICES == ("raise", "repair")


# ---- on two replicas ------------------------------------------------------------------------------------------------


def flip(variable, replica, entry):
    """Another entry in the copy of one replica only."""
    copy = variable.value.values[replica]
    value = copy.numpy()
    value.flat[entry] = 1 - value.flat[entry]
    copy.assign(value)


def digests(model):
    """One per replica, of all masks."""
    masks = [replicas.replica_values(m) for m in model.optimizer.masks]
    return [replicas.digest(copies) for copies in zip(*masks, strict=True)]


def fit(*callbacks, mirrored=True, **options):
    """Train the small model with five mask updates."""
    prune = tfsparse.Prune(tfsparse.OneCycle(updates=5), sparsity=0.6, **options)
    with testing.two_cpu_strategy().scope() if mirrored else contextlib.nullcontext():
        model = testing.small_model()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True))
    fixtures.fit_compiled(model, [prune, *callbacks])
    return model


class After(keras.callbacks.Callback):
    """Calls `function(model)` when so many steps are done."""

    def __init__(self, step, function):
        super().__init__()
        self.step, self.function = step, function

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.steps_done == self.step:
            self.function(self.model)


@pytest.fixture(scope="module")
def runs():
    """Model, digests and bytes sent after each step: of two replicas and of one device."""

    def run(mirrored):
        seen = []
        look = fixtures.AfterEveryStep(lambda model: seen.append((digests(model), model.optimizer.sync_stats.bytes)))
        return fit(look, mirrored=mirrored), *zip(*seen, strict=True)

    return run(mirrored=True), run(mirrored=False)


@mirrored_only
def test_two_replicas_have_the_masks_of_one_device_at_every_step(runs):
    (_, seen, _), (_, alone, _) = runs
    assert list(seen) == [[digest, digest] for (digest,) in alone]
    assert len({digest for (digest,) in alone}) >= 4


@mirrored_only
def test_bytes_are_sent_only_when_masks_are_compared(runs):
    model, _, sent = runs[0]
    each = 4 * len(NAMES)
    assert list(sent) == [each * sum(look < step for look in LOOKS) for step in range(1, STEPS + 1)]
    assert model.history.history["mask_bytes"] == [each * sum(look <= end for look in LOOKS) for end in ENDS]
    assert model.optimizer.sync_stats == SyncStats(len(LOOKS), each * len(LOOKS))
    report = tfsparse.report(model)
    assert report.sync_stats == model.optimizer.sync_stats
    assert report.as_dict()["sync_stats"]["bytes"] == each * len(LOOKS)
    assert f"{len(LOOKS)} times, {each * len(LOOKS)} bytes sent" in " ".join(str(report).split())


@mirrored_only
def test_one_device_sends_and_reports_nothing(runs):
    model, _, sent = runs[1]
    assert set(sent) == {0}
    assert "mask_bytes" not in model.history.history
    assert tfsparse.report(model).sync_stats is None


@mirrored_only
@pytest.mark.parametrize(("step", "caught"), [(2, 3), (7, 8), (12, 12)])
def test_a_flipped_entry_raises_before_the_next_update_or_at_the_end_of_the_epoch(step, caught):
    layer, replica = step % 3, step % 2
    plant = After(step, lambda model: flip(model.optimizer.masks[layer], replica, 3))
    with pytest.raises(RuntimeError, match=rf"^The masks of \S*{NAMES[layer]} on replica 1 of 2 differ"):
        fit(plant)
    assert plant.model.optimizer.steps_done == caught


@mirrored_only
@pytest.mark.parametrize("lives", [True, False])
def test_a_flipped_entry_is_repaired_with_its_weights_and_slots(lives):
    """While its mask is another one, a weight moves on one replica only."""

    def plant(model):
        mask = model.optimizer.masks[1]
        flip(mask, 1, np.flatnonzero(replicas.replica_values(mask)[0] == lives)[0])

    with pytest.warns(UserWarning, match=r"^The masks of \S*hidden/kernel on replica 1 of 2 differ"):
        model = fit(After(5, plant), on_divergence="repair")
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        first, second = replicas.replica_values(variable)
        np.testing.assert_array_equal(first, second, variable.path)
    assert model.optimizer.current_sparsity() == pytest.approx(0.6, abs=0.01)
    compared, pushed = 4 * len(NAMES) * len(LOOKS), math.ceil(64 * 8 / 8) + HEADER.size
    assert model.optimizer.sync_stats == SyncStats(len(LOOKS), compared + pushed)


@mirrored_only
def test_a_repair_also_copies_weights_that_diverged_under_equal_masks():
    def plant(model):
        copy = model.optimizer.pruned_variables[0].value.values[1]
        copy.assign(copy * 2)
        flip(model.optimizer.masks[2], 1, 0)

    with pytest.warns(UserWarning, match="head/kernel"):
        model = fit(After(5, plant), on_divergence="repair")
    first, second = replicas.replica_values(model.optimizer.pruned_variables[0])
    np.testing.assert_array_equal(first, second)


@mirrored_only
@pytest.mark.parametrize("policy", MaskStore.policies)
def test_push_and_pull_merge_the_copies_of_a_variable(policy):
    with testing.two_cpu_strategy().scope():
        mask = keras.Variable(np.ones((3, 5)))
    flip(mask, 1, 4)
    flip(mask, 0, 7)
    store = MaskStore(policy)
    store.push([mask], step=1)
    changed = {"leader": [7], "intersection": [4, 7], "union": [], "vote": []}[policy]
    assert np.flatnonzero(store.pull(step=1)[0] == 0).tolist() == changed
    assert store.sync_stats == SyncStats(1, 2 + HEADER.size)
