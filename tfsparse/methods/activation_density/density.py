"""Densities: the fraction of activations that are not zero, measured on fixed examples in inference mode."""

import dataclasses

import keras
import numpy as np
from keras import ops, tree

from tfsparse.backend import replicas
from tfsparse.structured.stages.policy import Probe

_RELATIVE_THRESHOLD = 1e-3  # smaller activations, relative to the RMS, count as zero where no exact zeros are


@dataclasses.dataclass(frozen=True)
class Densities:
    """The densities of a model.

    Attributes:
        network: Density of all groups that can be resized, in [0, 1].
        groups: `{name of a group: its density}`.
        channels: `{name of a group: array with the density of each of its channels}`.
    """

    network: float
    groups: dict[str, float]
    channels: dict[str, np.ndarray]


class NonzeroCount(keras.layers.Layer):
    """Counts the activations of a batch that are not zero.

        sparse:     a != 0
        otherwise:  |a| > 1e-3 * rms(a)

    The output is one row of integers per batch and replica, so that `predict` joins them and nothing is averaged: the
    count of each channel and, last, the number of activations per channel.

    Args:
        axis: Axis of the channels.
        sparse: Whether the nonlinearity has exact zeros.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, axis: int, sparse: bool, **kwargs):
        super().__init__(autocast=False, trainable=False, **kwargs)
        self.axis, self.sparse = axis, sparse

    def call(self, activations):
        """Return the counts, an int32 tensor of shape (1, channels + 1)."""
        is_nonzero = activations != 0 if self.sparse else self._is_large(ops.cast(activations, "float32"))
        channels = ops.cast(ops.moveaxis(is_nonzero, self.axis, -1), "float32")
        if len(channels.shape) > 2:  # floats are exact up to 2**24 positions of an example, and faster on a GPU
            channels = ops.sum(channels, axis=tuple(range(1, len(channels.shape) - 1)))
        counts = ops.sum(ops.cast(channels, "int32"), axis=0, keepdims=True)
        first_channel = ops.ones_like(ops.take(is_nonzero, [0], axis=self.axis), dtype="int32")
        return ops.concatenate([counts, ops.reshape(ops.sum(first_channel), (1, 1))], axis=1)

    def compute_output_spec(self, activations):
        return keras.KerasTensor((None, activations.shape[self.axis] + 1), "int32")

    def _is_large(self, activations):
        return ops.abs(activations) > _RELATIVE_THRESHOLD * ops.sqrt(ops.mean(ops.square(activations)))


class DensityProbe(Probe):
    """Measures the densities of one model on fixed examples.

        density of a tensor   = non-zero activations of the group's channels / all of them
        density of a group    = the highest of its tensors: tensors that are added have one width
        density of a channel  = the highest of its tensors
        density of the model  = all non-zero activations / all activations, of the groups that can be resized

    Args:
        model: A built model.
        graph: Its `Channels`.
        examples: Inputs as `model.predict` takes them.
        batch_size: Number of examples per batch. The RMS is that of a batch.

    Raises:
        ValueError: If no group can be resized.

    Source:
        Foldy-Porto, Venkatesha, Panda, "Activation Density driven Energy-Efficient Pruning in Training" (arXiv
        2002.02949), for the density of a layer.
    """

    condition = "is free and goes through a nonlinearity"

    def __init__(self, model, graph, examples, batch_size: int):
        super().__init__(model, graph)
        has_one_input = len(model.inputs) == 1  # Keras warns of a list of one where it expects an array
        self._examples = tree.flatten(examples)[0] if has_one_input else examples
        self._batch_size = batch_size
        channels = np.concatenate([group.channels for group in self.groups])
        self._num_ids = graph.size
        self._activations = [a for a in graph.activations if np.isin(a.ids, channels).any()]
        with replicas.strategy_scope(model):
            counts = [NonzeroCount(a.axis, a.sparse)(a.tensor) for a in self._activations]
            self._model = keras.Model(model.inputs[0] if has_one_input else model.input, counts)
        self._model.run_eagerly = model.run_eagerly

    def measure(self) -> Densities:
        """Return the densities of the model with its present weights."""
        rows = self._model.predict(self._examples, batch_size=self._batch_size, verbose=0)
        rows = rows if isinstance(rows, list) else [rows]
        counts = [np.sum(r, axis=0, dtype=np.int64) for r in rows]
        tensors = [(a.ids, c[:-1], c[-1]) for a, c in zip(self._activations, counts, strict=True)]
        return _densities(self.groups, tensors, self._num_ids)

    def figures(self):
        densities = self.measure()
        return {"density": densities.network}, {"densities": densities.groups}

    def _groups(self, graph):
        measured = [a.ids for a in graph.activations]
        ids = np.unique(np.concatenate(measured)) if measured else []
        return [g for g in super()._groups(graph) if np.isin(g.channels, ids).any()]


def _densities(groups, tensors, num_ids):
    """Return the densities from `tensors`: (channel ids, non-zero activations of each channel, activations of each)."""
    num_nonzero = num_activations = 0
    densities, channels = {}, np.zeros(num_ids)
    for group in groups:
        counts_of_tensors = []
        for ids, counts, size in tensors:
            is_own = np.isin(ids, group.channels)
            if is_own.any():
                np.maximum.at(channels, ids[is_own], counts[is_own] / size)
                counts_of_tensors.append((int(counts[is_own].sum()), int(size) * int(is_own.sum())))
        num_nonzero += sum(nonzero for nonzero, _ in counts_of_tensors)
        num_activations += sum(size for _, size in counts_of_tensors)
        densities[group.name] = max(nonzero / size for nonzero, size in counts_of_tensors)
    return Densities(num_nonzero / num_activations, densities, {g.name: channels[g.channels] for g in groups})
