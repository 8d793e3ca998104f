"""What lives or dies together: weights, channels, blocks, or N of M. Pools scores to units, spreads masks back.

Axes follow Keras's kernels: the last is the output, the one before it the input: Dense `(in, out)`, Conv
`(..., in, out)`. Transposed convolutions have the two the other way round, and so have their channels and blocks.
"""

import abc
import math
import re

from keras import ops


class Granularity(abc.ABC):
    """How the entries of a weight are grouped into units that are pruned as one; as text it is what `get` takes."""

    @abc.abstractmethod
    def num_units(self, shape) -> int:
        """Number of units in a weight of this shape."""

    @abc.abstractmethod
    def entries_per_unit(self, shape) -> int:
        """Zeros that one pruned unit gives."""

    @abc.abstractmethod
    def pool(self, scores):
        """One score per unit, as a tensor of `units` entries."""

    @abc.abstractmethod
    def expand(self, unit_mask, scores):
        """The mask of the weight from the mask of its units."""

    def break_ties(self, scores, mask):
        """The scores with ties between living and pruned entries settled, where units rank entries inside."""
        return scores

    def max_pruned_units(self, shape) -> int:
        """How many units may be pruned: one always lives."""
        return self.num_units(shape) - 1

    def max_sparsity(self, shape) -> float:
        """The sparsity at which the pattern ends; 1.0 for those that have no end."""
        return 1.0

    def for_shape(self, shape) -> "Granularity":
        """What a kernel of this shape is cut by."""
        return self

    @property
    def has_pattern(self) -> bool:
        """Do entries live on in a pruned unit? Then nothing can be exchanged unit by unit."""
        return False


class Weight(Granularity):
    """Every entry for itself."""

    def __str__(self):
        return "weight"

    def num_units(self, shape):
        return math.prod(shape)

    def entries_per_unit(self, shape):
        return 1

    def pool(self, scores):
        return scores

    def expand(self, unit_mask, scores):
        return unit_mask


class Channel(Granularity):
    """Output channels (columns of a Dense kernel, filters of a convolution), scored by the mean of their entries."""

    def __str__(self):
        return "channel"

    def num_units(self, shape):
        return shape[-1]

    def entries_per_unit(self, shape):
        return math.prod(shape[:-1])

    def pool(self, scores):
        return ops.mean(scores, axis=tuple(range(len(scores.shape) - 1)))

    def expand(self, unit_mask, scores):
        return ops.broadcast_to(unit_mask, scores.shape)


class Block(Granularity):
    """Blocks of `outputs x inputs` entries, scored by their mean; at the border of the kernel a block may be smaller.

    `Block(1, 4)`: four consecutive inputs of one output, the pattern that TFLite's fully connected kernel runs sparse.
    """

    def __init__(self, outputs: int, inputs: int):
        self.outputs, self.inputs = outputs, inputs

    def __str__(self):
        return f"({self.outputs}, {self.inputs})"

    def num_units(self, shape):
        return math.prod(shape[:-2]) * math.prod(self._grid(shape))

    def entries_per_unit(self, shape):
        return min(self.outputs, shape[-1]) * min(self.inputs, shape[-2])

    def pool(self, scores):
        rows, columns = self._grid(scores.shape)
        blocks = (-1, rows, self.inputs, columns, self.outputs)
        sums = ops.sum(ops.reshape(self._pad(scores), blocks), axis=(2, 4))
        sizes = ops.sum(ops.reshape(self._pad(ops.ones_like(scores)), blocks), axis=(2, 4))
        return sums / sizes

    def expand(self, unit_mask, scores):
        rows, columns = self._grid(scores.shape)
        mask = ops.reshape(unit_mask, (-1, rows, 1, columns, 1))
        mask = ops.broadcast_to(mask, (mask.shape[0], rows, self.inputs, columns, self.outputs))
        mask = ops.reshape(mask, (-1, rows * self.inputs, columns * self.outputs))
        return ops.reshape(mask[:, : scores.shape[-2], : scores.shape[-1]], scores.shape)

    def _grid(self, shape):
        return -(-shape[-2] // self.inputs), -(-shape[-1] // self.outputs)

    def _pad(self, x):
        x = ops.reshape(x, (-1, *x.shape[-2:]))
        return ops.pad(x, ((0, 0), (0, -x.shape[1] % self.inputs), (0, -x.shape[2] % self.outputs)))


class MaxBlock(Block):
    """Blocks scored by their largest entry."""

    def pool(self, scores):
        rows, columns = self._grid(scores.shape)
        blocks = (-1, rows, self.inputs, columns, self.outputs)
        return ops.max(ops.reshape(self._pad(scores), blocks), axis=(2, 4))


class NofM(Granularity):
    """N of every M consecutive inputs live; the groups that lose least by it take the pattern first.

    Inputs that do not fill a group stay dense. At the full pattern the sparsity is `1 - n / m` of the grouped inputs.
    """

    def __init__(self, n: int, m: int):
        self.n, self.m = n, m

    def __str__(self):
        return f"{self.n}:{self.m}"

    def num_units(self, shape):
        return math.prod(shape) // shape[-2] * (shape[-2] // self.m)

    def break_ties(self, scores, mask):
        return ops.where(mask > 0, scores, -1.0)

    def max_pruned_units(self, shape):
        return self.num_units(shape)

    def entries_per_unit(self, shape):
        return self.m - self.n

    def max_sparsity(self, shape):
        return 1 - self.n / self.m

    @property
    def has_pattern(self):
        return True

    def pool(self, scores):
        groups = self._groups(scores)
        return ops.sum(ops.where(self._keeps(groups), 0.0, ops.cast(groups, "float32")), axis=2)

    def expand(self, unit_mask, scores):
        groups = self._groups(scores)
        whole = ops.expand_dims(ops.reshape(unit_mask, (groups.shape[0], groups.shape[1], groups.shape[3])), 2)
        mask = ops.cast(ops.logical_or(whole > 0, self._keeps(groups)), scores.dtype)
        mask = ops.reshape(mask, (-1, groups.shape[1] * self.m, scores.shape[-1]))
        rest = scores.shape[-2] % self.m
        return ops.reshape(ops.pad(mask, ((0, 0), (0, rest), (0, 0)), constant_values=1), scores.shape)

    def _groups(self, scores):
        scores = ops.reshape(scores, (-1, *scores.shape[-2:]))
        full = scores.shape[1] // self.m
        return ops.reshape(scores[:, : full * self.m], (-1, full, self.m, scores.shape[2]))

    def _keeps(self, groups):
        """The n largest of each group, ties by lower index: an entry lives if fewer than n beat it."""
        members = [groups[:, :, i] for i in range(self.m)]
        keeps = []
        for i, own in enumerate(members):
            beaten = [other >= own if j < i else other > own for j, other in enumerate(members) if j != i]
            keeps.append(sum(ops.cast(b, "int32") for b in beaten) < self.n)
        return ops.stack(keeps, axis=2)


class ByKind(Granularity):
    """One granularity for kernels of rank 2 (Dense), another for those of higher rank (convolutions).

    `ByKind((1, 4), "weight")`: blocks where TFLite's kernel runs them sparse, single weights where none does.

    Args:
        dense, conv: anything that `get` takes.
    """

    def __init__(self, dense, conv):
        self.dense, self.conv = get(dense), get(conv)

    def num_units(self, shape):
        return self.for_shape(shape).num_units(shape)

    def entries_per_unit(self, shape):
        return self.for_shape(shape).entries_per_unit(shape)

    def pool(self, scores):
        return self.for_shape(scores.shape).pool(scores)

    def expand(self, unit_mask, scores):
        return self.for_shape(scores.shape).expand(unit_mask, scores)

    def break_ties(self, scores, mask):
        return self.for_shape(scores.shape).break_ties(scores, mask)

    def max_pruned_units(self, shape):
        return self.for_shape(shape).max_pruned_units(shape)

    def max_sparsity(self, shape):
        return self.for_shape(shape).max_sparsity(shape)

    @property
    def has_pattern(self):
        return self.dense.has_pattern or self.conv.has_pattern

    def for_shape(self, shape):
        return self.dense if len(shape) == 2 else self.conv


def get(granularity: str | tuple[int, int] | dict | Granularity) -> Granularity:
    """`"weight"`, `"channel"`, a block `(outputs, inputs)`, `"n:m"`, `{"dense": ..., "conv": ...}` of two of these, or
    a `Granularity` as it is.

    Raises: ValueError for anything else.

    >>> get("2:4").entries_per_unit((8, 3)), get({"dense": (1, 4), "conv": "weight"}).entries_per_unit((8, 3))
    (2, 4)
    """
    if isinstance(granularity, Granularity):
        return granularity
    if isinstance(granularity, dict):
        return _by_kind(granularity)
    if granularity == "weight":
        return Weight()
    if granularity == "channel":
        return Channel()
    if isinstance(granularity, (tuple, list)) and len(granularity) == 2 and all(
        isinstance(g, int) and g > 0 for g in granularity
    ):
        return Block(*granularity)
    match = re.fullmatch(r"(\d+):(\d+)", str(granularity))
    if match and 0 < int(match[1]) < int(match[2]):
        return NofM(int(match[1]), int(match[2]))
    raise ValueError(
        f'granularity={granularity!r}: expected "weight", "channel", a block such as (1, 4) (outputs x inputs), N of M '
        'such as "2:4", or {"dense": (1, 4), "conv": "weight"}.'
    )


def to_config(granularity):
    """As it is kept in configurations: lists of YAML and JSON are tuples, kinds stand in one order.

    >>> to_config({"conv": "weight", "dense": [1, 4]})
    {'dense': (1, 4), 'conv': 'weight'}
    """
    if isinstance(granularity, dict):
        return {kind: to_config(granularity[kind]) for kind in _KINDS}
    return tuple(granularity) if isinstance(granularity, list) else granularity


_KINDS = ("dense", "conv")


def _by_kind(granularity):
    if set(granularity) != set(_KINDS):
        raise ValueError(
            f"granularity={granularity!r}: expected one for each kind of kernel, those of rank 2 and all others: write "
            'granularity={"dense": (1, 4), "conv": "weight"}.'
        )
    return ByKind(**granularity)
