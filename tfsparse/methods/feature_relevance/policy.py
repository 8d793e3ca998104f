"""Which channels go: those of the lowest relevance, of all layers together."""

import dataclasses

import keras
import numpy as np

from tfsparse.backend import replicas
from tfsparse.methods.feature_relevance import propagation, scores
from tfsparse.structured import importance
from tfsparse.structured.stages.examples import inputs_and_labels_of
from tfsparse.structured.stages.options import whole
from tfsparse.structured.stages.policy import Probe
from tfsparse.structured.stages.rounds import RoundOptions, RoundsPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RoundOptions):
    """The options of `FeatureRelevance`, checked.

    Raises:
        ValueError: If an option has another value than its `metadata["expected"]` says.
    """

    smallest: int = whole(8, "Smallest width of a layer.")
    examples: int = whole(5000, "Number of examples on which relevance is measured.")


class RelevanceProbe(Probe):
    """Measures the relevance of the channels of one model on fixed examples.

        relevance of a channel of a layer = `scores.channel_relevance` of its mean over positions
        relevance of a channel of a group = sum over the layers that produce it, / the norm over the group

    Args:
        model: A built model.
        graph: Its `Channels`.
        examples: `(inputs, labels)`.
        batch_size: Number of examples per batch.
    """

    def __init__(self, model, graph, examples, batch_size: int):
        super().__init__(model, graph)
        self._num_classes, self._batch_size = model.outputs[0].shape[-1], batch_size
        self._inputs = keras.tree.flatten(examples[0])[0]
        self._labels = scores.class_indices(examples[1], self._num_classes)
        self._kernels = [axis for group in self.groups for axis in group.outputs if axis.variable is axis.layer.kernel]
        layers = [axis.layer for axis in self._kernels]
        with replicas.strategy_scope(model):
            inputs = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
            labels = keras.Input((self._num_classes,))
            outputs = propagation.RelevanceLayer(model, layers)(inputs, labels)
            self._model = keras.Model([inputs, labels], outputs)
        self._model.run_eagerly = model.run_eagerly

    def measure(self) -> dict[str, np.ndarray]:
        """Return `{group: one score per channel}` for the present weights."""
        labels = np.eye(self._num_classes, dtype="float32")[self._labels]
        found, outputs = self._model.predict([self._inputs, labels], batch_size=self._batch_size, verbose=0)
        relevance = scores.channel_relevance(found, self._labels, outputs.argmax(axis=1), self._num_classes)
        sizes = np.cumsum([len(axis.ids) for axis in self._kernels])
        of_layer = dict(zip(map(id, self._kernels), np.split(relevance, sizes[:-1]), strict=True))
        return {group.name: self._of_group(group, of_layer) for group in self.groups}

    def _of_group(self, group, of_layer):
        kernels = [axis for axis in group.outputs if id(axis) in of_layer]
        total = sum(importance.per_channel(group, axis, of_layer[id(axis)]) for axis in kernels)
        return total / max(np.linalg.norm(total), np.finfo("float64").tiny)


class RelevancePolicy(RoundsPolicy):
    """Removes channels of the lowest relevance, ranked over all layers together.

    Args:
        options: `Options`.
    """

    method = "feature_relevance"
    examples = staticmethod(inputs_and_labels_of)

    def check_model(self, model, graph):
        propagation.check(model)
        widths = [len(group) for group in graph.groups if not group.frozen]
        largest = sum(max(width - self.options.smallest, 0) for width in widths)
        asked = round(self.options.sparsity * sum(widths))
        if asked > largest:
            raise ValueError(
                f"sparsity={self.options.sparsity}: {asked} of {sum(widths)} channels cannot go, since each of "
                f"{len(widths)} layers or groups keeps smallest={self.options.smallest}. Write "
                f"sparsity={np.floor(100 * largest / sum(widths)) / 100:g} or a smaller smallest."
            )

    def probe(self, model, graph, examples, batch_size):
        return RelevanceProbe(model, graph, examples, batch_size)

    def kept_channels(self, probe, entries, position):
        first, now = (sum(widths.values()) for widths in (entries[0]["widths"], probe.widths))
        count = self.num_removed(first, position) - (first - now)
        return scores.kept_channels(probe.groups, probe.measure(), count, self.options.smallest)
