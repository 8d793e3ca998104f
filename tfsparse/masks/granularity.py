"""Granularities: which entries of a weight are pruned together.

A granularity groups the entries of a weight into units, turns the scores of the entries into one score per unit, and
turns the mask of the units back into a mask of the weight.

The axes are those of Keras's kernels: the last axis is the output, the one before it the input. Dense kernels have the
shape `(in, out)`, convolution kernels `(..., in, out)`. Transposed convolutions have these two axes the other way
round, so their channels and blocks are exchanged too.
"""

import abc
import itertools
import math
import re
from typing import NamedTuple

import keras
from keras import ops

from tfsparse.backend.registry import Configurable, Registry, check_choice
from tfsparse.masks import topk


def nearest_units(count, entries_per_unit: int):
    """Return the number of units whose entries are nearest to a count, an int or an integer tensor."""
    return (count + entries_per_unit // 2) // entries_per_unit


class Part(NamedTuple):
    """Units of one size in a weight.

    Attributes:
        num_units: Number of units.
        entries_per_unit: Number of zeros that one pruned unit gives.
        place: Index of these units in the result of `pool`.
    """

    num_units: int
    entries_per_unit: int
    place: tuple = (...,)


class Granularity(Configurable, abc.ABC):
    """Base of all granularities. A subclass is a constructor with options and four methods.

        pooled = pool(scores)                                one score per unit
        unit_mask = topk(pooled)                             1: the unit is kept; 0: it is pruned
        mask = expand(unit_mask, scores)                     as large as the weight

    `pool` and `expand` are called in the compiled training step, so they consist of `keras.ops` on tensors of a known
    shape. The granularity must satisfy `expand(ones, scores) == ones_like(scores)`, and pruning one more unit must
    give `entries_per_unit` more zeros. If some units are smaller, as at the border of a weight, override `parts`.

    Register a subclass to use it by name: `@tfsparse.masks.granularities.register`.

    Attributes:
        has_pattern: True if entries inside a pruned unit are kept, as for 2:4. Such units cannot be exchanged, so
            `DropAndGrow` pruners refuse them.
    """

    has_pattern = False

    @abc.abstractmethod
    def num_units(self, shape: tuple) -> int:
        """Return the number of units in a weight of this shape."""

    @abc.abstractmethod
    def entries_per_unit(self, shape: tuple) -> int:
        """Return the number of zeros that one pruned unit gives in a weight of this shape."""

    @abc.abstractmethod
    def pool(self, scores):
        """Return one score per unit, as a tensor of `num_units` entries of any shape.

        Args:
            scores: Float tensor with the shape of the weight, >= 0. Also called with a mask: then a unit's result must
                be 0 if and only if the unit is pruned.
        """

    def pool_mask(self, mask):
        """Return one number per unit, 0 if and only if the unit is pruned, of a mask of any dtype."""
        return self.pool(ops.cast(mask, "float32"))

    @abc.abstractmethod
    def expand(self, unit_mask, scores):
        """Return the mask of the weight.

        Args:
            unit_mask: Uint8 tensor of zeros and ones with the shape of `pool`'s result.
            scores: The scores that were pooled.
        """

    def break_ties(self, scores, mask):
        """Return the scores so that a pruned entry never wins a tie against a kept one inside a unit."""
        return scores

    def max_pruned_units(self, shape: tuple) -> int:
        """Return how many units may be pruned. By default all but one."""
        return self.num_units(shape) - 1

    def max_sparsity(self, shape: tuple) -> float:
        """Return the highest sparsity that can be requested, in (0, 1]. By default 1.0: no limit."""
        return 1.0

    def parts(self, shape: tuple) -> list[Part]:
        """Return the units of a weight by their size. By default all have the same size."""
        return [Part(self.num_units(shape), self.entries_per_unit(shape))]

    def max_zeros(self, shape: tuple) -> int:
        """Return the largest number of zeros in a weight of this shape."""
        parts, num_kept = self.parts(shape), self.num_units(shape) - self.max_pruned_units(shape)
        return sum(p.num_units * p.entries_per_unit for p in parts) - num_kept * min(p.entries_per_unit for p in parts)

    def nearest_count(self, shape: tuple, count: float) -> int:
        """Return the number of zeros nearest to `count` that whole units give in a weight of this shape."""
        whole = (round(count), math.floor(count), math.ceil(count))
        return min((self._nearest_count(shape, n) for n in whole), key=lambda n: abs(n - count))

    def _nearest_count(self, shape, count):
        parts, count = self.parts(shape), min(count, self.max_zeros(shape))
        sizes, limits = [p.entries_per_unit for p in parts], [p.num_units for p in parts]
        if len(parts) == 1:
            return nearest_units(count, sizes[0]) * sizes[0]
        counts = topk.split_proportionally(sum(limits) * count // math.prod(shape), limits)
        return int(sum(n * e for n, e in zip(topk.nearest_counts(counts, count, limits, sizes), sizes, strict=True)))

    def prune_lowest(self, pooled, num_pruned, kept, shape: tuple):
        """Return a mask of units that prunes the lowest, as many as make the number of zeros nearest to a count.

        Args:
            pooled: One score per unit, as `pool` returns them.
            num_pruned: Number of entries to prune, an int or an integer tensor.
            kept: The mask of units until now, as `pool` returns it.
            shape: Shape of the weight.
        """
        parts = self.parts(shape)
        if len(parts) == 1:
            count = nearest_units(ops.cast(num_pruned, "int32"), parts[0].entries_per_unit)
            return topk.prune_lowest([pooled], [count], [kept])[0]
        scores, masks = self.split(pooled, shape), self.split(kept, shape)
        unit_masks = topk.prune_lowest_together(scores, num_pruned, [p.entries_per_unit for p in parts], masks)
        return self.join(unit_masks, shape)

    def split(self, pooled, shape: tuple) -> list:
        """Return one tensor for each of the `parts` of a result of `pool`."""
        parts = self.parts(shape)
        return [pooled[p.place] for p in parts] if len(parts) > 1 else [pooled]

    def join(self, tensors: list, shape: tuple):
        """Return what `split` has split. By default there is one part."""
        return tensors[0]

    def for_shape(self, shape: tuple) -> "Granularity":
        """Return the granularity of a kernel of this shape: this one."""
        return self


granularities = Registry("granularity", Granularity)


@granularities.register
class Weight(Granularity):
    """Each entry is a unit: unstructured pruning."""

    def __str__(self):
        return "weight"

    def num_units(self, shape):
        return math.prod(shape)

    def entries_per_unit(self, shape):
        return 1

    def pool(self, scores):
        return scores

    def pool_mask(self, mask):
        return mask

    def expand(self, unit_mask, scores):
        return unit_mask


@granularities.register
class Channel(Granularity):
    """Each output channel is a unit.

        score of a unit = mean of its entries

    A channel is a column of a Dense kernel, a filter of a convolution.
    """

    def __str__(self):
        return "channel"

    def num_units(self, shape):
        return shape[-1]

    def entries_per_unit(self, shape):
        return math.prod(shape[:-1])

    def pool(self, scores):
        return ops.mean(scores, axis=tuple(range(len(scores.shape) - 1)))

    def expand(self, unit_mask, scores):
        return ops.broadcast_to(ops.cast(unit_mask, "float32"), scores.shape)


@keras.saving.register_keras_serializable(package="tfsparse")
class Block(Granularity):
    """Blocks of `outputs x inputs` entries. At the border of a kernel a block may be smaller.

        score of a unit = mean, or maximum, of its entries

    The blocks with the lowest scores are pruned. In a kernel with smaller blocks some more or fewer of them are, so
    that the number of zeros is the nearest possible one. Such a block may return at a later update.

    `Block(1, 4)` is four consecutive inputs of one output. TFLite's fully connected kernel runs this pattern sparse.

    Args:
        outputs: Consecutive outputs in a block, >= 1.
        inputs: Consecutive inputs in a block, >= 1.
        pooling: "mean" or "max". Default: "mean".

    Raises:
        ValueError: If `pooling` is something else.
    """

    def __init__(self, outputs: int, inputs: int, pooling: str = "mean"):
        self.outputs, self.inputs = outputs, inputs
        self.pooling = check_choice("pooling", pooling, ("mean", "max"))

    def __str__(self):
        return f"({self.outputs}, {self.inputs})"

    def num_units(self, shape):
        return math.prod(shape[:-2]) * math.prod(self._num_blocks(shape))

    def entries_per_unit(self, shape):
        return min(self.outputs, shape[-1]) * min(self.inputs, shape[-2])

    def parts(self, shape):
        positions = math.prod(shape[:-2])
        return [
            Part(positions * rows * columns, inputs * outputs, (slice(None), row, column))
            for (row, rows, inputs), (column, columns, outputs) in itertools.product(
                _runs(shape[-2], self.inputs), _runs(shape[-1], self.outputs)
            )
        ]

    def join(self, tensors, shape):
        columns = len(_runs(shape[-1], self.outputs))
        rows = [ops.concatenate(tensors[i : i + columns], axis=2) for i in range(0, len(tensors), columns)]
        return ops.concatenate(rows, axis=1)

    def pool(self, scores):
        if self.pooling == "max":
            return ops.max(self._blocks(scores), axis=(2, 4))
        sizes = ops.sum(self._blocks(ops.ones_like(scores)), axis=(2, 4))
        return ops.sum(self._blocks(scores), axis=(2, 4)) / sizes

    def expand(self, unit_mask, scores):
        rows, columns = self._num_blocks(scores.shape)
        mask = ops.reshape(ops.cast(unit_mask, "float32"), (-1, rows, 1, columns, 1))
        mask = ops.broadcast_to(mask, (mask.shape[0], rows, self.inputs, columns, self.outputs))
        mask = ops.reshape(mask, (-1, rows * self.inputs, columns * self.outputs))
        return ops.reshape(mask[:, : scores.shape[-2], : scores.shape[-1]], scores.shape)

    def _num_blocks(self, shape):
        return -(-shape[-2] // self.inputs), -(-shape[-1] // self.outputs)

    def _blocks(self, x):
        """Pad with zeros to whole blocks, as (positions, rows of blocks, inputs, columns of blocks, outputs)."""
        rows, columns = self._num_blocks(x.shape)
        x = ops.reshape(x, (-1, *x.shape[-2:]))
        x = ops.pad(x, ((0, 0), (0, -x.shape[1] % self.inputs), (0, -x.shape[2] % self.outputs)))
        return ops.reshape(x, (-1, rows, self.inputs, columns, self.outputs))


def _runs(length, size):
    """Return for the whole blocks along an axis, and for the rest: place, number of blocks, entries of a block."""
    whole, rest = divmod(length, size)
    runs = [(slice(0, whole), whole, size), (slice(whole, whole + 1), 1, rest)]
    return [run for run in runs if run[1] * run[2] > 0]


@keras.saving.register_keras_serializable(package="tfsparse")
class NofM(Granularity):
    """N of every M consecutive inputs are kept.

        pruned group: its n entries with the highest scores are kept
        score of a unit (a group) = sum of the m - n lowest scores, what pruning the group would lose

    Inputs that do not fill a group stay dense. When all groups are pruned, the sparsity is `1 - n / m` of the grouped
    inputs.

    Args:
        n: Entries that are kept in a group, 0 < n < m.
        m: Entries in a group.
    """

    has_pattern = True

    def __init__(self, n: int, m: int):
        self.n, self.m = n, m

    def __str__(self):
        return f"{self.n}:{self.m}"

    def num_units(self, shape):
        return math.prod(shape) // shape[-2] * (shape[-2] // self.m)

    def entries_per_unit(self, shape):
        return self.m - self.n

    def break_ties(self, scores, mask):
        return ops.where(mask > 0, scores, -1.0)

    def max_pruned_units(self, shape):
        return self.num_units(shape)

    def max_sparsity(self, shape):
        return 1 - self.n / self.m

    def pool(self, scores):
        groups = self._groups(scores)
        lowest = ops.where(self._largest(groups), 0.0, ops.cast(groups, "float32"))
        return ops.sum(ops.maximum(lowest, 0.0), axis=2)  # `break_ties` has put what is pruned below 0

    def expand(self, unit_mask, scores):
        groups = self._groups(scores)
        unit_mask = ops.expand_dims(ops.reshape(unit_mask, (groups.shape[0], groups.shape[1], groups.shape[3])), 2)
        mask = ops.cast(ops.logical_or(unit_mask > 0, self._largest(groups)), scores.dtype)
        mask = ops.reshape(mask, (-1, groups.shape[1] * self.m, scores.shape[-1]))
        num_ungrouped = scores.shape[-2] % self.m
        return ops.reshape(ops.pad(mask, ((0, 0), (0, num_ungrouped), (0, 0)), constant_values=1), scores.shape)

    def _groups(self, scores):
        """Return the grouped inputs as (positions, groups, m, outputs)."""
        scores = ops.reshape(scores, (-1, *scores.shape[-2:]))
        num_groups = scores.shape[1] // self.m
        return ops.reshape(scores[:, : num_groups * self.m], (-1, num_groups, self.m, scores.shape[2]))

    def _largest(self, groups):
        """Return where the n largest of each group are; of equal entries the one with the lower index."""
        members = [groups[:, :, i] for i in range(self.m)]
        result = []
        for i, own in enumerate(members):
            larger = [other >= own if j < i else other > own for j, other in enumerate(members) if j != i]
            result.append(sum(ops.cast(x, "float32") for x in larger) < self.n)
        return ops.stack(result, axis=2)


class ByKind:
    """One granularity for kernels of rank 2 (Dense), another for kernels of a higher rank (convolutions).

    `ByKind((1, 4), "weight")`: blocks where TFLite's kernel runs them sparse, single weights everywhere else.

    Args:
        dense: Granularity of kernels of rank 2: anything that `get` accepts, except a dict.
        conv: Granularity of all other kernels, in the same form.
    """

    def __init__(self, dense, conv):
        self.dense, self.conv = get(dense), get(conv)
        self.has_pattern = self.dense.has_pattern or self.conv.has_pattern

    def for_shape(self, shape: tuple) -> Granularity:
        """Return the granularity of a kernel of this shape."""
        return self.dense if len(shape) == 2 else self.conv


_KINDS = ("dense", "conv")


def get(granularity: str | tuple[int, int] | dict | Granularity | ByKind) -> Granularity | ByKind:
    """Return the granularity that a user's argument means.

    Args:
        granularity: "weight", "channel", another registered name, a block `(outputs, inputs)`, "n:m" such as "2:4",
            `{"dense": ..., "conv": ...}` of two of these, or a `Granularity`, which is returned as it is.

    Returns:
        An object whose `for_shape(shape)` is the `Granularity` of a kernel.

    Raises:
        ValueError: If `granularity` is none of these.

    Examples:
        >>> get("2:4").entries_per_unit((8, 3))
        2
        >>> get({"dense": (1, 4), "conv": "weight"}).for_shape((8, 3)).entries_per_unit((8, 3))
        4
    """
    if isinstance(granularity, dict) and not granularity.keys() & {"class_name", "name"}:
        if set(granularity) != set(_KINDS):
            raise ValueError(
                f"granularity={granularity!r}: expected one granularity for kernels of rank 2 and one for all other "
                'kernels: write granularity={"dense": (1, 4), "conv": "weight"}.'
            )
        return ByKind(**granularity)
    if isinstance(granularity, ByKind):
        return granularity
    if isinstance(granularity, (Granularity, dict)) or granularity in granularities.names():
        return granularities.get(granularity)
    if isinstance(granularity, (tuple, list)) and len(granularity) == 2 and all(
        isinstance(g, int) and g > 0 for g in granularity
    ):
        return Block(*granularity)
    match = re.fullmatch(r"(\d+):(\d+)", str(granularity))
    if match and 0 < int(match[1]) < int(match[2]):
        return NofM(int(match[1]), int(match[2]))
    known = ", ".join(f'"{name}"' for name in granularities.classes)
    raise ValueError(
        f"granularity={granularity!r}: expected {known}, a block such as (1, 4) (outputs x inputs), N of M such as "
        '"2:4", or {"dense": (1, 4), "conv": "weight"}.'
    )


def to_config(granularity):
    """Return the argument of `get` in the form in which configurations keep it, so that equal arguments are equal.

    Examples:
        >>> to_config({"conv": "weight", "dense": [1, 4]})
        {'dense': (1, 4), 'conv': 'weight'}
    """
    if isinstance(granularity, dict):
        by_kind = set(granularity) == set(_KINDS)
        return {kind: to_config(granularity[kind]) for kind in _KINDS} if by_kind else get(granularity)
    return tuple(granularity) if isinstance(granularity, list) else granularity
