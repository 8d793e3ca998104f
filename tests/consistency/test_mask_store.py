"""Push and pull between simulated replicas: each mask comes with a value per replica, as in a PerReplica.

Real replicas are in test_checks.py, real processes in test_jax_processes.py and tfmot/test_multi_worker.py.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest

from tfsparse.backend import replicas
from tfsparse.consistency.mask_store import HEADER, MaskStore, SyncStats


class PerReplica(NamedTuple):
    values: list


PROPOSALS = [
    [1, 1, 1, 0, 0, 1],
    [1, 1, 0, 0, 1, 0],
    [1, 0, 0, 0, 1, 1],
    [1, 0, 1, 0, 0, 0],
]
MERGED = {
    "leader": [1, 1, 1, 0, 0, 1],
    "intersection": [1, 0, 0, 0, 0, 0],
    "union": [1, 1, 1, 0, 1, 1],
    "vote": [1, 1, 1, 0, 1, 1],  # two of four are half
}
REFERENCE = {
    "leader": lambda masks: masks[0],
    "intersection": lambda masks: np.all(masks, axis=0),
    "union": lambda masks: np.any(masks, axis=0),
    "vote": lambda masks: np.mean(masks, axis=0) >= 0.5,
}


def proposed(replicas, shapes, seed=0):
    """Random masks: for each shape one per replica."""
    random = np.random.default_rng(seed)
    return [PerReplica(list((random.random((replicas, *shape)) < 0.5).astype("float32"))) for shape in shapes]


@pytest.mark.parametrize("policy", MaskStore.policies)
def test_golden_merges_of_four_replicas(policy):
    store = MaskStore(policy)
    store.push([PerReplica([np.array(p, "float32") for p in PROPOSALS])], step=3)
    (merged,) = store.pull(step=3)
    assert merged.tolist() == MERGED[policy]


@pytest.mark.parametrize("policy", MaskStore.policies)
@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_masks_of_any_shape_are_merged_as_numpy_merges_them(policy, replicas):
    masks = proposed(replicas, [(7, 3), (5,), (2, 2, 3), (1,)])  # 39 bits: whole bytes nowhere
    store = MaskStore(policy)
    store.push(masks, step=1)
    for mask, merged in zip(masks, store.pull(step=1), strict=True):
        np.testing.assert_array_equal(merged, REFERENCE[policy](np.array(mask.values)))
        assert merged.dtype == "float32"


def test_a_push_sends_a_bit_per_entry_and_a_header_and_a_pull_nothing():
    shapes = [(7, 3), (5,), (3, 4)]
    each = math.ceil((21 + 5 + 12) / 8) + HEADER.size
    store = MaskStore()
    store.push(proposed(2, shapes), step=1)
    assert store.sync_stats == SyncStats(num_syncs=1, bytes=each)
    store.pull(step=1)
    assert store.sync_stats == SyncStats(num_syncs=1, bytes=each)
    store.push(proposed(2, shapes), step=2)
    assert store.sync_stats == SyncStats(num_syncs=2, bytes=2 * each)
    assert (each, HEADER.size) == (5 + 24, 24)


def test_one_replica_sends_nothing():
    store = MaskStore()
    store.push([np.ones(9)], step=1)
    np.testing.assert_array_equal(store.pull(step=1)[0], np.ones(9))
    assert store.sync_stats == SyncStats()


def test_pulling_another_step_than_was_pushed_is_an_error():
    store = MaskStore()
    with pytest.raises(ValueError, match=r"pull\(4\): the store holds nothing.*push\(masks, 4\)"):
        store.pull(step=4)
    store.push([np.ones(3)], step=4)
    with pytest.raises(ValueError, match=r"pull\(5\): the store holds the masks of step 4"):
        store.pull(step=5)
    store.pull(step=4)


def other_process(monkeypatch, change):
    """Simulate another process that sends what this one sends, changed by a function."""
    monkeypatch.setattr(replicas, "exchange", lambda message, value: [message, change(message)])


def test_a_process_that_pushes_for_another_step_is_an_error(monkeypatch):
    other = MaskStore()
    sent = []
    other_process(monkeypatch, lambda message: sent.append(message) or message)
    other.push([np.ones(20)], step=6)
    other_process(monkeypatch, lambda message: sent[0])
    with pytest.raises(ValueError, match=r"20 entries for step 6 .* and this one 20 for step 7"):
        MaskStore().push([np.ones(20)], step=7)
    with pytest.raises(ValueError, match=r"20 entries for step 6 .* and this one 19 for step 6"):
        MaskStore().push([np.ones(19)], step=6)
    MaskStore().push([np.ones(20)], step=6)


def test_damaged_bits_are_an_error(monkeypatch):
    other_process(monkeypatch, lambda message: message[:-1] + bytes([message[-1] ^ 128]))
    with pytest.raises(ValueError, match="step 2 arrived damaged"):
        MaskStore().push([np.ones(20)], step=2)


def test_an_unknown_policy_is_an_error():
    with pytest.raises(ValueError, match="policy='mean': expected one of 'leader', 'intersection', 'union', 'vote'"):
        MaskStore("mean")
