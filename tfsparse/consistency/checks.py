"""Do all replicas hold equal masks? Asked before every update that would overwrite them, and answered by digests."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from tfsparse.backend import replicas
from tfsparse.consistency.mask_store import MaskStore, SyncStats

CHOICES = ("raise", "repair")


def check_masks(
    masks: Sequence,
    names: Sequence[str],
    on_divergence: str = "raise",
    dependents: Callable[[], Sequence] = list,
    sync_stats: SyncStats | None = None,
) -> list[str]:
    """Compare the masks of all replicas, in this process and in others; each of them sends 4 bytes per mask.

        digests = crc32(packbits(mask)) for every mask
        divergent = masks whose digest is not the same on all replicas
        repair: masks, and what depends on them, become those of the first replica (push and pull, policy "leader")

    Call it where masks are about to be overwritten and when training pauses: an update computes them once for all
    replicas of a process, and so hides that they had been different. All processes call it at the same steps, and not
    in compiled code. With one replica it does nothing.

    Args:
        masks, names: the variables and what to call them.
        on_divergence: "raise" or "repair"; a repair warns.
        dependents: gives the variables that diverge with a mask: the weights and the optimizer's slots.
        sync_stats: where the bytes are counted.

    Returns: the names of the masks that differed and were repaired.

    Raises: RuntimeError that names them.

    >>> check_masks(optimizer.masks, [v.path for v in optimizer.pruned_variables])
    []
    """
    pairs = [(mask, name) for mask, name in zip(masks, names, strict=True) if replicas.num_replicas(mask) > 1]
    if not pairs:
        return []
    masks, names = zip(*pairs, strict=True)
    digests = _digests(masks, sync_stats or SyncStats())
    found = np.flatnonzero(np.any(digests != digests[0], axis=0))
    if not len(found):
        return []
    divergent = [names[i] for i in found]
    message = _message(divergent, np.flatnonzero(np.any(digests != digests[0], axis=1)), len(digests))
    if on_divergence == "raise":
        raise RuntimeError(
            f"{message} A replica computed or kept something for itself. Restart from the last checkpoint, or go on "
            'with what the first replica has: Prune(..., on_divergence="repair").'
        )
    _repair([masks[i] for i in found], dependents(), sync_stats or SyncStats())
    warnings.warn(f"{message} Masks, weights and slots are the first replica's now.", stacklevel=2)
    return divergent


def check_choice(on_divergence: str) -> str:
    """The choice itself.

    Raises: ValueError if it is none.
    """
    if on_divergence not in CHOICES:
        raise ValueError(f"on_divergence={on_divergence!r}: expected one of {CHOICES}.")
    return on_divergence


def _digests(masks, sync_stats) -> np.ndarray:
    """crc32 of each mask on each replica of all processes: (replicas, masks)."""
    local = np.array([[replicas.digest([copy]) for copy in replicas.copies(mask)] for mask in masks], np.uint32)
    received = b"".join(replicas.exchange(local.T.tobytes(), masks[0]))
    sync_stats.add(4 * len(masks))
    return np.frombuffer(received, np.uint32).reshape(-1, len(masks))


def _repair(masks, dependents, sync_stats):
    store = MaskStore("leader")
    store.push(masks, step=0)
    for mask, value in zip(masks, store.pull(step=0), strict=True):
        replicas.assign(mask, value)
    sync_stats.bytes += store.sync_stats.bytes  # of the same event
    for variable in dependents:
        replicas.copy_from_first(variable)


def _message(names, replicas, count):
    which = ", ".join(map(str, replicas))
    return f"The masks of {', '.join(names)} on replica {which} of {count} differ from those on replica 0."


class NextUpdate:
    """Says before each call of a compiled step whether it contains a mask update, and reads the device only about as
    often as there are some.

        wait until the next due step may be in the call; read the step; due if it is

    A batch makes at most one step: with gradient accumulation or loss scaling there are fewer, and it looks again.

    Args:
        due: the steps at which masks are updated, ascending, counted from 1.
        per_call: batches in one call, the model's `steps_per_execution`.
        read: gives the number of steps done.
    """

    def __init__(self, due: Sequence[int], per_call: int, read: Callable[[], int]):
        self.due, self.per_call, self.read = np.asarray(due), per_call, read
        self.wait = 1

    def __call__(self) -> bool:
        """To be asked once before every call of the step."""
        self.wait -= 1
        if self.wait > 0:
            return False
        done = self.read()
        following = self.due[np.searchsorted(self.due, done, side="right") :]
        if not len(following):
            self.wait = np.inf
            return False
        ahead = int(following[0]) - done  # 1: in the next step
        self.wait = max((ahead - 1) // self.per_call, 1)
        return ahead <= self.per_call
