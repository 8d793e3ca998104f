"""How many activations are not zero: measured on fixed examples, in inference mode."""

import dataclasses

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import replicas
from tfsparse.pruners.selection import is_prunable

SMALL = 1e-3  # times the root mean square of a tensor: what counts as zero where the nonlinearity has no exact zeros


@dataclasses.dataclass(frozen=True)
class Density:
    """What one measurement found: `network` and `groups[name]` in [0, 1], `channels[name]` an array per group."""

    network: float
    groups: dict[str, float]
    channels: dict[str, np.ndarray]


class Count(keras.layers.Layer):
    """Count a batch of activations: `(1, channels + 1)` integers, those not zero per channel and, last, how many
    there are of each. A row per batch and replica, so that `predict` puts them together and nothing is averaged.

        sparse:     a != 0
        otherwise:  |a| > 1e-3 * rms(a)
    """

    def __init__(self, axis: int, sparse: bool, **kwargs):
        super().__init__(autocast=False, trainable=False, **kwargs)
        self.axis, self.sparse = axis, sparse

    def call(self, activations):
        """See the class."""
        alive = activations != 0 if self.sparse else self._is_large(ops.cast(activations, "float32"))
        channels = ops.cast(ops.moveaxis(alive, self.axis, -1), "float32")
        if len(channels.shape) > 2:  # floats are exact up to 2**24 positions of an example, and faster on a GPU
            channels = ops.sum(channels, axis=tuple(range(1, len(channels.shape) - 1)))
        counts = ops.sum(ops.cast(channels, "int32"), axis=0, keepdims=True)
        one = ops.ones_like(ops.take(alive, [0], axis=self.axis), dtype="int32")
        return ops.concatenate([counts, ops.reshape(ops.sum(one), (1, 1))], axis=1)

    def compute_output_spec(self, activations):
        """Keras asks for it where the number of channels is known."""
        return keras.KerasTensor((None, activations.shape[self.axis] + 1), "int32")

    def _is_large(self, activations):
        return ops.abs(activations) > SMALL * ops.sqrt(ops.mean(ops.square(activations)))


class Probe:
    """Measures the densities of one model on fixed examples.

        density of a tensor   = non-zero activations of the group's channels / all of them
        density of a group    = the highest of its tensors: those that meet in an Add share one width
        density of a channel  = the highest of its tensors
        density of the model  = all non-zero activations / all activations, of the groups that can be resized

    Args:
        model: built.
        graph: its `Channels`.
        examples: inputs as `model.predict` takes them.
        batch_size: examples at once. An RMS is that of a batch's tensor.

    Raises: ValueError if no group can be resized.
    """

    def __init__(self, model, graph, examples, batch_size: int):
        one = len(model.inputs) == 1  # Keras warns of a list of one where an array comes
        self._examples, self._batch_size = tree.flatten(examples)[0] if one else examples, batch_size
        self.groups = _measurable(graph)
        if not self.groups:
            raise ValueError(
                f"Model {model.name!r} has no layer to resize: none of its {len(graph.groups)} groups of channels is "
                "free and goes through a nonlinearity. print(tfsparse.structured.Channels(model)) says why."
            )
        free = np.concatenate([group.channels for group in self.groups])
        self._size = graph.size
        self._activations = [a for a in graph.activations if np.isin(a.ids, free).any()]
        with replicas.strategy_scope(model):
            counters = [Count(a.axis, a.sparse)(a.tensor) for a in self._activations]
            self._model = keras.Model(model.inputs[0] if one else model.input, counters)
        self._model.run_eagerly = model.run_eagerly

    def measure(self) -> Density:
        """The densities of the model as it is now."""
        rows = self._model.predict(self._examples, batch_size=self._batch_size, verbose=0)
        rows = rows if isinstance(rows, list) else [rows]
        counts = [np.sum(r, axis=0, dtype=np.int64) for r in rows]
        tensors = [(a.ids, c[:-1], c[-1]) for a, c in zip(self._activations, counts, strict=True)]
        return summary(self.groups, tensors, self._size)


def _measurable(graph):
    seen = [a.ids for a in graph.activations]
    ids = np.unique(np.concatenate(seen)) if seen else []
    return [g for g in graph.groups if not g.frozen and np.isin(g.channels, ids).any()]


def summary(groups, tensors, size: int) -> Density:
    """Densities of groups from counts. `tensors`: (ids, non-zero activations of each, activations of each); `size`: how
    many ids there are.
    """
    alive = whole = 0
    densities, channels = {}, np.zeros(size)
    for group in groups:
        found = []
        for ids, counts, each in tensors:
            mine = np.isin(ids, group.channels)
            if mine.any():
                np.maximum.at(channels, ids[mine], counts[mine] / each)
                found.append((int(counts[mine].sum()), int(each) * int(mine.sum())))
        alive, whole = alive + sum(a for a, _ in found), whole + sum(w for _, w in found)
        densities[group.name] = max(a / w for a, w in found)
    return Density(alive / whole, densities, {g.name: channels[g.channels] for g in groups})


def norms(group, size: int) -> np.ndarray:
    """The L1 norm of what makes each channel of a group: the sum over its producers' kernels. `size`: as above."""
    total = np.zeros(size)
    for made in group.outputs:
        if is_prunable(made.variable):
            kernel = np.abs(ops.convert_to_numpy(made.variable)).astype(np.float64)
            kernel = np.moveaxis(kernel, made.axis, 0)
            np.add.at(total, np.asarray(made.ids), kernel.reshape(len(kernel), -1).sum(axis=1))
    return total[group.channels]
