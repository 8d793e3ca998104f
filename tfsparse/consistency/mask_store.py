"""Push and pull: the masks that replicas propose are merged into one mask that all replicas get."""

import dataclasses
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import registry, replicas

HEADER = struct.Struct("<4sqIq")  # format and version, step, crc32 of the bits, number of bits
_FORMAT = b"TSM1"


@dataclasses.dataclass
class SyncStats:
    """How much was sent to keep masks equal.

    Attributes:
        num_syncs: Number of comparisons and pushes.
        bytes: Bytes that each replica sent in all of them.
    """

    num_syncs: int = 0
    bytes: int = 0

    def add(self, num_bytes: int) -> None:
        """Count one event in which each replica sent `num_bytes` bytes."""
        self.num_syncs += 1
        self.bytes += num_bytes


class MaskStore:
    """Merges the masks that all replicas propose into one version for all of them.

        push(proposal, step):  bits = packbits(proposal);  merged = policy(bits of all replicas)
        pull(step):            unpackbits(merged)

    Use it for criteria that each replica computes from data of its own. The pruners of this package compute equal masks
    from equal inputs; for them `tfsparse.consistency.checks.check_masks` sends a digest instead.

    Replicas are the copies of a variable in this process (MirroredStrategy, JAX devices) and those of the other
    processes (MultiWorkerMirroredStrategy, `jax.distributed`). All processes push and pull together, outside
    `strategy.run`.

    Args:
        policy: Which entries are kept. "leader": those of the first replica. "intersection": those that all replicas
            keep. "union": those that any replica keeps. "vote": those that at least half of the replicas keep. All but
            "leader" change the sparsity where the proposals differ. Default: "leader".

    Raises:
        ValueError: If the policy is none of these.

    Source:
        Push and pull are named after MXNet's KVStore.

    Examples:
        >>> store = MaskStore("vote")
        >>> store.push(masks, step=100)  # per mask a variable, or the value of each replica
        >>> merged = store.pull(step=100)
    """

    policies = ("leader", "intersection", "union", "vote")

    def __init__(self, policy: str = "leader"):
        self.policy, self.sync_stats = registry.check_choice("policy", policy, self.policies), SyncStats()
        self._step = None

    def push(self, proposal: Sequence, step: int) -> None:
        """Propose masks for a step. Each replica sends `ceil(entries / 8) + HEADER.size` bytes.

        Args:
            proposal: Per mask a variable, or the value of each replica.
            step: Step of training; the same on all replicas.

        Raises:
            ValueError: If another replica pushed for another step or other shapes, or if its bits arrived damaged.
        """
        local = list(zip(*(replicas.copies(mask) for mask in proposal), strict=True))
        self._shapes = [tuple(mask.shape) for mask in local[0]]
        self._dtypes = [np.dtype(getattr(mask.dtype, "name", mask.dtype)) for mask in local[0]]
        num_bits = sum(int(np.prod(shape)) for shape in self._shapes)
        messages = [_message(backend_ops.packbits(masks).tobytes(), step, num_bits) for masks in local]
        size = len(messages[0])
        received = b"".join(replicas.exchange(b"".join(messages), proposal[0]))
        bits = [_read_bits(received[i : i + size], messages[0]) for i in range(0, len(received), size)]
        self._merged, self._step = _merge(np.stack(bits), self.policy), step
        if len(bits) > 1:
            self.sync_stats.add(size)

    def pull(self, step: int) -> list[np.ndarray]:
        """Return the merged masks of a step. Nothing is sent.

        Args:
            step: The step for which masks were pushed.

        Returns:
            Arrays with the shapes and dtypes that were pushed.

        Raises:
            ValueError: If the store holds the masks of another step, or none.
        """
        if self._step != step:
            content = "nothing" if self._step is None else f"the masks of step {self._step}"
            raise ValueError(
                f"pull({step}): the store holds {content}, so the replicas are not at the same step. Call "
                f"push(masks, {step}) on all of them before."
            )
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        parts = np.split(np.unpackbits(self._merged, count=sum(sizes)), np.cumsum(sizes)[:-1])
        each = zip(parts, self._shapes, self._dtypes, strict=True)
        return [part.reshape(shape).astype(dtype) for part, shape, dtype in each]


def _message(bits: bytes, step: int, num_bits: int) -> bytes:
    return HEADER.pack(_FORMAT, step, zlib.crc32(bits), num_bits) + bits


def _read_bits(message: bytes, own_message: bytes) -> np.ndarray:
    """Return the bits of a message if it has the format, step and length of our own and an intact checksum."""
    bits = message[HEADER.size :]
    (form, step, crc, num_bits), own = HEADER.unpack_from(message), HEADER.unpack_from(own_message)
    if (form, step, num_bits) != (own[0], own[1], own[3]):
        raise ValueError(
            f"A replica pushed {num_bits} entries for step {step} ({form!r}) and this one {own[3]} for step {own[1]} "
            f"({own[0]!r}): all of them must push the same masks at the same step."
        )
    if crc != zlib.crc32(bits):
        raise ValueError(f"The masks that a replica pushed for step {step} arrived damaged: push them again.")
    return np.frombuffer(bits, np.uint8)


def _merge(bits: np.ndarray, policy: str) -> np.ndarray:
    """Merge the packed bits of all replicas: (replicas, bytes) -> (bytes,)."""
    if policy == "leader":
        return bits[0]
    if policy == "intersection":
        return np.bitwise_and.reduce(bits)
    if policy == "union":
        return np.bitwise_or.reduce(bits)
    votes = np.sum(np.unpackbits(bits, axis=1), axis=0, dtype=np.int32)
    return np.packbits(2 * votes >= len(bits))
