"""Push and pull: masks that replicas propose, merged into one that all of them get."""

import dataclasses
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas

HEADER = struct.Struct("<4sqIq")  # format and version, step, crc32 of the bits, number of bits
_FORMAT = b"TSM1"


@dataclasses.dataclass
class SyncStats:
    """What was sent to keep masks equal: how often, and the bytes that each replica sent in all."""

    num_syncs: int = 0
    bytes: int = 0

    def add(self, message: int) -> None:
        """Count one more event, in which each replica sent so many bytes."""
        self.num_syncs += 1
        self.bytes += message


class MaskStore:
    """One version of the masks for all replicas, merged from what each of them proposes, a bit per entry.

        push(proposal, step):  bits = packbits(proposal);  merged = policy(bits of all replicas)
        pull(step):            unpackbits(merged)

    It is for criteria that a replica computes from data of its own. Where all of them compute equal masks from equal
    inputs, as the pruners of this package do, `tfsparse.consistency.checks.check_masks` sends a digest instead. Replicas are
    the copies of a variable in this process (MirroredStrategy, JAX devices) and those of the other processes
    (MultiWorkerMirroredStrategy, `jax.distributed`), which push and pull together, outside of `strategy.run`.

    Args:
        policy: "leader": the first replica's mask; "intersection": what all keep; "union": what any keeps; "vote": what
            at least half of them keep. All but the first change the sparsity where the proposals differ.

    Raises: ValueError for another policy.

    Source: the vocabulary is that of MXNet's KVStore; the contract is ours.

    >>> store = MaskStore("vote")
    >>> store.push(masks, step=100)  # a variable, or the value of each replica, per mask
    >>> store.pull(step=100)
    """

    policies = ("leader", "intersection", "union", "vote")

    def __init__(self, policy: str = "leader"):
        if policy not in self.policies:
            raise ValueError(f"MaskStore got policy={policy!r}: expected one of {', '.join(self.policies)}.")
        self.policy, self.sync_stats = policy, SyncStats()
        self._step = None

    def push(self, proposal: Sequence, step: int) -> None:
        """Propose masks for a step; each replica sends `ceil(entries / 8) + HEADER.size` bytes.

        Raises: ValueError if another replica pushed for another step, other shapes, or its bits did not arrive.
        """
        local = list(zip(*(replicas.copies(mask) for mask in proposal), strict=True))
        self._like = [(tuple(mask.shape), np.dtype(getattr(mask.dtype, "name", mask.dtype))) for mask in local[0]]
        bits = sum(int(np.prod(shape)) for shape, _ in self._like)
        messages = [_message(backend_ops.packbits(masks).tobytes(), step, bits) for masks in local]
        size = len(messages[0])
        everyone = b"".join(replicas.exchange(b"".join(messages), proposal[0]))
        received = [_opened(everyone[i : i + size], messages[0]) for i in range(0, len(everyone), size)]
        self._merged, self._step = _merge(np.stack(received), self.policy), step
        if len(received) > 1:
            self.sync_stats.add(size)

    def pull(self, step: int) -> list[np.ndarray]:
        """The merged masks of a step, in the shapes and the type that were pushed; nothing is sent.

        Raises: ValueError if the store holds another step's.
        """
        if self._step != step:
            held = "nothing" if self._step is None else f"the masks of step {self._step}"
            raise ValueError(
                f"pull({step}) was asked for and the store holds {held}: the replicas are not at the same step. Call "
                f"push(masks, {step}) on all of them before."
            )
        sizes = [int(np.prod(shape)) for shape, _ in self._like]
        parts = np.split(np.unpackbits(self._merged, count=sum(sizes)), np.cumsum(sizes)[:-1])
        return [part.reshape(shape).astype(dtype) for part, (shape, dtype) in zip(parts, self._like, strict=True)]


def _message(bits: bytes, step: int, count: int) -> bytes:
    return HEADER.pack(_FORMAT, step, zlib.crc32(bits), count) + bits


def _opened(message: bytes, own: bytes) -> np.ndarray:
    """The bits of a message; its header must fit this process's own and its bits their checksum."""
    bits = message[HEADER.size :]
    (form, step, crc, count), mine = HEADER.unpack_from(message), HEADER.unpack_from(own)
    if (form, step, count) != (mine[0], mine[1], mine[3]):
        raise ValueError(
            f"A replica pushed {count} entries for step {step} ({form!r}) and this one {mine[3]} for step {mine[1]} "
            f"({mine[0]!r}): all of them must push the same masks at the same step."
        )
    if crc != zlib.crc32(bits):
        raise ValueError(f"The masks that a replica pushed for step {step} arrived damaged: push them again.")
    return np.frombuffer(bits, np.uint8)


def _merge(bits: np.ndarray, policy: str) -> np.ndarray:
    """Packed bits of all replicas, (replicas, bytes) -> (bytes,)."""
    if policy == "leader":
        return bits[0]
    if policy == "intersection":
        return np.bitwise_and.reduce(bits)
    if policy == "union":
        return np.bitwise_or.reduce(bits)
    votes = np.sum(np.unpackbits(bits, axis=1), axis=0, dtype=np.int32)
    return np.packbits(2 * votes >= len(bits))
