"""The coupled channels of a model: one structure for scoring them, choosing which to keep, and removing the others."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfsparse.structured import importance, multiply_adds, plots
from tfsparse.structured.channel_tracer import ChannelTracer, VariableAxis
from tfsparse.structured.union_find import UnionFind


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Coupled channels: all that the same layers produce, joined by additions, gates and other elementwise operations.

    Args:
        name: Name of the first layer that produces them.
        channels: Their ids.
        frozen: Why the number of channels cannot change; None if it can.
        outputs: Axes of variables that produce these channels.
        inputs: Axes of variables that read them.
        per_channel: Axes of variables that act on each channel alone (BatchNormalization, depthwise kernels).
    """

    name: str
    channels: np.ndarray
    frozen: str | None
    outputs: tuple[VariableAxis, ...]
    inputs: tuple[VariableAxis, ...]
    per_channel: tuple[VariableAxis, ...]

    def __len__(self):
        return len(self.channels)

    @property
    def axes(self) -> tuple[VariableAxis, ...]:
        """All axes of variables that have these channels."""
        return (*self.outputs, *self.per_channel, *self.inputs)

    @property
    def layers(self) -> list[str]:
        """The names of the layers of these variables."""
        return _layer_names(self.axes)

    def __str__(self):
        parts = {"made by": self.outputs, "through": self.per_channel, "read by": self.inputs}
        lines = [f"{self.name}: {len(self)} channels" + (f", frozen: {self.frozen}" if self.frozen else "")]
        lines += [f"    {how} {', '.join(_layer_names(axes))}" for how, axes in parts.items() if axes]
        return "\n".join(lines)


class Channels:
    """The groups of coupled channels of a Functional or Sequential model. `print` shows them.

        each channel of each tensor has an id; coupled channels have the same id:
        a + b couples channels, concatenation lines them up, a dense or convolutional layer makes new ones

    An operation that is not understood (attention, LayerNormalization, Lambda, layers of your own) freezes the channels
    that it reads, and `group.frozen` says so. `tfsparse.structured.rules.register` adds a rule for a layer of your own.

    Args:
        model: A built model.

    Attributes:
        size: Number of ids. A `kept` array has one boolean for each.
        groups: Tuple of `Group`, in the order of the layers.
        activations: Outputs of nonlinearities, with the ids of their channels.

    Raises:
        ValueError: If the model is not a graph of layers.

    Source:
        Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023): dependency groups.

    Examples:
        >>> print(tfsparse.Channels(model))
    """

    def __init__(self, model: keras.Model):
        tracer = ChannelTracer(model)
        sets = tracer.sets

        def with_roots(record):
            return dataclasses.replace(record, ids=sets.find(record.ids))

        self.model, self.size = model, len(sets)
        self.config_changes, self.model_inputs = tracer.config_changes, tracer.model_inputs
        self.axes = [with_roots(axis) for axis in tracer.axes.values()]
        self.linear_calls = [
            dataclasses.replace(with_roots(call), outputs=sets.find(call.outputs)) for call in tracer.linear_calls
        ]
        self.activations = [with_roots(activation) for activation in tracer.activations]
        self.groups = _groups(self.axes, sets)
        self.roots = sets.find(np.arange(self.size))
        self.frozen = np.array([sets.frozen_reason([id_]) is not None for id_ in range(self.size)], bool)
        self._ids: dict[int, dict[int, np.ndarray]] = {}
        for axis in self.axes:
            self._ids.setdefault(id(axis.variable), {})[axis.axis] = axis.ids
        uses = multiply_adds.uses_per_entry(model)
        self._uses = [(v, uses[id(v)]) for v in model.weights if id(v) in uses]

    def __str__(self):
        return "\n".join(map(str, self.groups))

    def group_of(self, layer: keras.layers.Layer | str) -> Group:
        """Return the group whose channels a layer produces.

        Args:
            layer: The layer, its name, or the name of the group.

        Raises:
            ValueError: If there is no such group.
        """
        for group in self.groups:
            if any(layer is axis.layer or layer == axis.layer.name for axis in group.outputs):
                return group
        names = ", ".join(group.name for group in self.groups)
        raise ValueError(
            f"{getattr(layer, 'name', layer)!r} makes no channels here. Expected a dense or convolutional layer of "
            f"{self.model.name!r}, or the name of a group: {names}."
        )

    def plot(self):
        """Draw the groups; `pip install 'tfsparse[plot]'` installs what it needs.

        Returns:
            A `matplotlib.figure.Figure`.

        Examples:
            >>> tfsparse.Channels(model).plot().savefig("groups.png")
        """
        return plots.plot(self)

    # ---- choice -----------------------------------------------------------------------------------------------------

    def keep_all(self) -> np.ndarray:
        """Return a `kept` array that drops nothing."""
        return np.ones(self.size, bool)

    def keep(self, channels: Mapping, score: str | Callable = "l2", multiple: int = 1) -> np.ndarray:
        """Return a `kept` array that drops channels of some groups.

        Args:
            channels: `{layer or name of a group: channels to keep}`. A number keeps the best ones by `score`; a list
                has the indices of the channels to keep, or one boolean each.
            score: As in `tfsparse.slim`. Default: "l2".
            multiple: Round numbers of channels up to a multiple of this. Default: 1.

        Returns:
            One boolean per channel id.

        Raises:
            ValueError: If a group is frozen or would be empty, or if indices or numbers do not fit.
        """
        kept = self.keep_all()
        for layer, requested in channels.items():
            group = self.group_of(layer)
            selected = _select(group, requested, score, multiple)
            if group.frozen and not selected.all():
                raise ValueError(f"The width of {group.name!r} cannot change: {group.frozen}. Leave it out of keep.")
            kept[group.channels] = selected
        return kept[self.roots]

    # ---- cost -------------------------------------------------------------------------------------------------------

    def macs(self, kept: np.ndarray | None = None) -> int:
        """Count the multiply-adds of all kernels per example.

        Args:
            kept: Count only the channels of this `kept` array. Default: None, all of them.

        Returns:
            A number of multiply-adds.

        Raises:
            ValueError: If the model leaves the size of its input open, or has kernels in a layer without a rule.
        """
        unknown = next((kernel for kernel, uses in self._uses if uses is None), None)
        if unknown is not None:
            layer = multiply_adds.layer_without_rule(self.model, unknown)
            reason = (
                "the model leaves the size of its input open. Build it with keras.Input of a fixed shape, for example "
                "(224, 224, 3)"
                if layer is None
                else f"layer {layer.name!r} has no rule. Write tfsparse.structured.multiply_adds.register("
                f"{type(layer).__name__}, function)"
            )
            raise ValueError(f"The multiply-adds of {unknown.path} are unknown: {reason}.")
        return sum(self._num_entries(kernel, kept) * uses for kernel, uses in self._uses)

    def parameters(self, kept: np.ndarray | None = None) -> int:
        """Count the entries of all trainable variables; with a `kept` array, only those of its channels."""
        return sum(self._num_entries(variable, kept) for variable in self.model.trainable_variables)

    def ids(self, variable: keras.Variable) -> dict[int, np.ndarray]:
        """Return `{axis: channel ids}` of a variable."""
        return self._ids.get(id(variable), {})

    def _num_entries(self, variable, kept):
        shape = list(variable.shape)
        if kept is not None:
            for axis, ids in self.ids(variable).items():
                shape[axis] = int(np.count_nonzero(kept[ids]))
        return math.prod(shape)


def _layer_names(axes):
    return list(dict.fromkeys(axis.layer.name for axis in axes))


def _groups(axes: Sequence[VariableAxis], sets: UnionFind) -> tuple[Group, ...]:
    """Put all ids that some layer produces together into one group."""
    together = UnionFind()
    together.make_sets(len(sets))
    produced = [axis for axis in axes if axis.role == "out"]
    for axis in produced:
        together.union(axis.ids, np.full_like(axis.ids, axis.ids[0]))
    roots = together.find(np.arange(len(sets)))
    members = {int(roots[axis.ids[0]]): [] for axis in produced}
    for axis in axes:
        for root in dict.fromkeys(roots[axis.ids].tolist()):
            if root in members:
                members[root].append(axis)
    return tuple(_group(axes, sets) for axes in members.values())


def _group(axes, sets):
    outputs, inputs, per_channel = (tuple(a for a in axes if a.role == role) for role in ("out", "in", "per_channel"))
    channels = np.array(list(dict.fromkeys(np.concatenate([axis.ids for axis in outputs]).tolist())))
    reason = sets.frozen_reason(channels)
    if reason:
        sets.freeze(channels, reason)
    return Group(outputs[0].layer.name, channels, reason, outputs, inputs, per_channel)


def _select(group, requested, score, multiple):
    """Return one boolean per channel of a group."""
    requested, size, selected = np.asarray(requested), len(group), np.zeros(len(group), bool)
    is_integer = requested.dtype.kind in "iu"
    if requested.ndim == 0 and is_integer and 0 < requested <= size:
        num_kept = min(-(-int(requested) // multiple) * multiple, size)
        selected[importance.order(group, importance.scores(group, score))[:num_kept]] = True
    elif requested.ndim == 1 and requested.dtype == bool and len(requested) == size and requested.any():
        selected = requested
    elif requested.ndim == 1 and len(requested) and is_integer and requested.min() >= 0 and requested.max() < size:
        selected[requested] = True
    else:
        raise ValueError(
            f"keep[{group.name!r}]={requested.tolist()!r}: the group has {size} channels. Expected a number from 1 to "
            f"{size}, indices below {size}, or {size} booleans with one True: keep={{{group.name!r}: {size}}}."
        )
    return selected
