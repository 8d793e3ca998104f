"""Checks that all replicas hold equal masks: they compare digests before a mask update would hide a difference."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from tfsparse.backend import registry, replicas
from tfsparse.consistency.mask_store import MaskStore, SyncStats

CHOICES = ("raise", "repair")


def check_masks(
    masks: Sequence,
    names: Sequence[str],
    on_divergence: str = "raise",
    *,
    dependents: Callable[[], Sequence] = list,
    sync_stats: SyncStats | None = None,
) -> list[str]:
    """Compare the masks of all replicas, in this process and in others.

        digests[replica, mask] = crc32(packbits(mask))          4 bytes per mask and replica
        divergent = masks whose digests differ
        repair: divergent masks and `dependents` = their values on the first replica

    Call it before masks are overwritten and when training pauses. An update computes the masks once for all replicas of
    a process, and so hides that they differed. All processes must call it at the same steps, outside compiled code.
    With one replica it does nothing.

    Args:
        masks: Mask variables.
        names: Their names in messages.
        on_divergence: "raise", or "repair", which warns. Default: "raise".
        dependents: Returns the variables that diverge together with the masks: weights and optimizer slots.
        sync_stats: Where the number of comparisons and bytes is counted.

    Returns:
        The names of the masks that differed and were repaired.

    Raises:
        RuntimeError: If masks differ and `on_divergence` is "raise".

    Examples:
        >>> check_masks(optimizer.masks, [v.path for v in optimizer.pruned_variables])
        []
    """
    replicated = [(mask, name) for mask, name in zip(masks, names, strict=True) if replicas.num_replicas(mask) > 1]
    if not replicated:
        return []
    masks, names = zip(*replicated, strict=True)
    sync_stats = sync_stats or SyncStats()
    differs = _differs_from_first(masks, sync_stats)
    if not np.any(differs):
        return []
    divergent = np.flatnonzero(np.any(differs, axis=0))
    differing = [names[i] for i in divergent]
    which = ", ".join(map(str, np.flatnonzero(np.any(differs, axis=1))))
    message = (
        f"The masks of {', '.join(differing)} on replica {which} of {len(differs)} differ from those on replica 0."
    )
    if on_divergence == "raise":
        raise RuntimeError(
            f"{message} A replica computed or kept something for itself. Restart from the last checkpoint, or continue "
            'with what the first replica has: Prune(..., on_divergence="repair").'
        )
    _repair([masks[i] for i in divergent], dependents(), sync_stats)
    warnings.warn(f"{message} Masks, weights and slots are now those of replica 0.", stacklevel=2)
    return differing


def check_choice(on_divergence: str) -> str:
    """Return `on_divergence` if it is "raise" or "repair".

    Raises:
        ValueError: If it is something else.
    """
    return registry.check_choice("on_divergence", on_divergence, CHOICES)


def _differs_from_first(masks, sync_stats) -> np.ndarray:
    """Return whether the digest of a mask on a replica differs from that on replica 0, as (replicas, masks)."""
    local = np.array([[replicas.digest([copy]) for copy in replicas.copies(mask)] for mask in masks], np.uint32)
    received = b"".join(replicas.exchange(local.T.tobytes(), masks[0]))
    sync_stats.add(4 * len(masks))
    digests = np.frombuffer(received, np.uint32).reshape(-1, len(masks))
    return digests != digests[0]


def _repair(masks, dependents, sync_stats):
    store = MaskStore("leader")
    store.push(masks, step=0)
    for mask, value in zip(masks, store.pull(step=0), strict=True):
        replicas.assign(mask, value)
    sync_stats.bytes += store.sync_stats.bytes  # counted as one event with the comparison
    for variable in dependents:
        replicas.copy_from_first(variable)


class NextUpdate:
    """Tells before each call of a compiled step whether the call contains a mask update.

        wait for as many calls as cannot contain the next update
        read the number of steps done;  return True if the next update is in this call

    Reading the number of steps waits for the device. It is read about as often as masks are updated. A batch makes at
    most one step. With gradient accumulation or loss scaling it may make none; then the number is read again.

    Args:
        update_steps: The steps at which masks are updated, ascending, counted from 1.
        batches_per_call: Batches in one call, the model's `steps_per_execution`.
        read_steps: Returns the number of steps done.
    """

    def __init__(self, update_steps: Sequence[int], batches_per_call: int, read_steps: Callable[[], int]):
        self.update_steps = np.asarray(update_steps)
        self.batches_per_call, self.read_steps = batches_per_call, read_steps
        self._calls_to_wait = 1

    def __call__(self) -> bool:
        """Return True if the next call of the step contains a mask update. Call it once before each call."""
        self._calls_to_wait -= 1
        if self._calls_to_wait > 0:
            return False
        done = self.read_steps()
        remaining = self.update_steps[np.searchsorted(self.update_steps, done, side="right") :]
        if not len(remaining):
            self._calls_to_wait = np.inf
            return False
        steps_until_update = int(remaining[0]) - done  # 1: in the next step
        self._calls_to_wait = max((steps_until_update - 1) // self.batches_per_call, 1)
        return steps_until_update <= self.batches_per_call
