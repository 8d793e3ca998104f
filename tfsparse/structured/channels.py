"""The channels of a model that live and die together: one structure for importance, choice and surgery."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.structured import importance, multiply_adds, plots
from tfsparse.structured.channel_tracer import Slice, Walk
from tfsparse.structured.union_find import Ties


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels of one width: all that the same layers make, through whatever ties them (additions, gates, ...).

    Args:
        name: the name of the first layer that makes them.
        channels: their ids.
        frozen: why the width must stay; None if it need not.
        outputs: axes of variables that make these channels.
        inputs: axes of variables that read them.
        others: axes of variables that do something to each (BatchNormalization, depthwise kernels).
    """

    name: str
    channels: np.ndarray
    frozen: str | None
    outputs: tuple[Slice, ...]
    inputs: tuple[Slice, ...]
    others: tuple[Slice, ...]

    def __len__(self):
        return len(self.channels)

    @property
    def slices(self) -> tuple[Slice, ...]:
        """All of them."""
        return (*self.outputs, *self.others, *self.inputs)

    @property
    def layers(self) -> list[str]:
        """The names of all layers that have to do with these channels."""
        return list(dict.fromkeys(s.layer.name for s in self.slices))

    def __str__(self):
        parts = {"made by": self.outputs, "through": self.others, "read by": self.inputs}
        lines = [f"{self.name}: {len(self)} channels" + (f", frozen: {self.frozen}" if self.frozen else "")]
        for what, slices in parts.items():
            names = dict.fromkeys(s.layer.name for s in slices)
            lines += [f"    {what} {', '.join(names)}"] if names else []
        return "\n".join(lines)


class Channels:
    """The channel groups of a Functional or Sequential model; prints itself.

        every channel of every tensor bears an id; what must live and die together bears the same one:
        a + b ties ids, concatenation strings them together, a dense or convolutional layer makes new ones

    What is not understood (attention, LayerNormalization, Lambda, layers of your own) freezes the channels that it
    meets; `group.frozen` says what and why. Teach it a layer of your own with `tfsparse.structured.rules.register`.

    Args:
        model: built.

    Attributes:
        size: number of ids; `alive` arrays have one boolean for each.
        groups: tuple of `Group`, in the order of the layers.
        activations: outputs of nonlinearities, with the ids of their channels.

    Raises: ValueError for a model that is not a graph of layers.

    Source: the dependency groups of Fang et al., "DepGraph" (CVPR 2023).

    >>> print(tfsparse.Channels(model))
    """

    def __init__(self, model: keras.Model):
        walk = Walk(model)
        ties = walk.ties
        self.model, self.size, self.configs, self.marks = model, len(ties), walk.configs, walk.inputs
        uses = multiply_adds.uses_per_entry(model)
        self._uses = [(v, uses[id(v)]) for v in model.weights if id(v) in uses]
        self.slices = [_rooted(s, ties) for s in walk.slices.values()]
        self.uses = [dataclasses.replace(_rooted(u, ties), outputs=ties.roots(u.outputs)) for u in walk.uses]
        self.groups = _groups(self.slices, ties)
        self.activations = [_rooted(a, ties) for a in walk.activations]
        self.roots = ties.roots(np.arange(self.size))
        self.frozen = np.array([ties.reason([i]) is not None for i in range(self.size)], bool)
        self._axes: dict[int, dict[int, np.ndarray]] = {}
        for s in self.slices:
            self._axes.setdefault(id(s.variable), {})[s.axis] = s.ids

    def __str__(self):
        return "\n".join(map(str, self.groups))

    def group_of(self, layer: keras.layers.Layer | str) -> Group:
        """The group whose channels a layer makes, or that of this name.

        Raises: ValueError if there is none.
        """
        for group in self.groups:
            if any(layer is s.layer or layer == s.layer.name for s in group.outputs):
                return group
        names = ", ".join(group.name for group in self.groups)
        raise ValueError(
            f"{getattr(layer, 'name', layer)!r} makes no channels here. Expected a dense or convolutional layer of "
            f"{self.model.name!r}, or the name of a group: {names}."
        )

    def plot(self):
        """A `matplotlib.figure.Figure` of the groups: `.plot().savefig("groups.png")`."""
        return plots.plot(self)

    # ---- choice -----------------------------------------------------------------------------------------------------

    def everything(self) -> np.ndarray:
        """`alive` with nothing dropped."""
        return np.ones(self.size, bool)

    def keep(self, wanted: Mapping, score: str | Callable = "l2", multiple: int = 1) -> np.ndarray:
        """`alive` where of some groups only a part is kept.

        Args:
            wanted: `{layer or group's name: kept}`; a number keeps the best by `score` (see `tfsparse.slim`), else the
                indices of the channels to keep, or one boolean each.
            multiple: round numbers up to a multiple of this.

        Raises: ValueError for a frozen group, an empty one, indices or numbers that do not fit.
        """
        alive = self.everything()
        for layer, kept in wanted.items():
            group = self.group_of(layer)
            chosen = _chosen(group, kept, lambda g=group: importance.scores(g, score), multiple)
            if group.frozen and not chosen.all():
                raise ValueError(f"The width of {group.name!r} cannot change: {group.frozen}. Leave it out of keep.")
            alive[group.channels] = chosen
        return alive[self.roots]

    # ---- cost -------------------------------------------------------------------------------------------------------

    def macs(self, alive: np.ndarray | None = None) -> int:
        """Count the multiply-adds of all kernels per example.

        Raises: ValueError if the model leaves the size of its input open, or has kernels in a layer without a rule.
        """
        unknown = next((kernel for kernel, uses in self._uses if uses is None), None)
        if unknown is not None:
            owners = [x for x in keras_internals.all_layers(self.model) if any(v is unknown for v in x.weights)]
            raise ValueError(
                f"The multiply-adds of {unknown.path} are unknown. If the model leaves the size of its input open, "
                "build it with keras.Input of a fixed shape, for example (224, 224, 3). If there is no rule for this "
                f"kind of layer, write tfsparse.structured.multiply_adds.register({type(owners[-1]).__name__}, function)."
            )
        return sum(self._entries(kernel, alive) * uses for kernel, uses in self._uses)

    def parameters(self, alive: np.ndarray | None = None) -> int:
        """Entries of all trainable variables."""
        return sum(self._entries(variable, alive) for variable in self.model.trainable_variables)

    def ids(self, variable: keras.Variable) -> dict[int, np.ndarray]:
        """`{axis: ids}` of a variable."""
        return self._axes.get(id(variable), {})

    def _entries(self, variable, alive):
        shape = list(variable.shape)
        if alive is not None:
            for axis, ids in self.ids(variable).items():
                shape[axis] = int(np.count_nonzero(alive[ids]))
        return math.prod(shape)


def _rooted(found, ties):
    """With the ids that stand for all they are tied to."""
    return dataclasses.replace(found, ids=ties.roots(found.ids))


def _groups(slices: Sequence[Slice], ties: Ties) -> tuple[Group, ...]:
    """Ids that some layer makes together are of one group."""
    together = Ties()
    together.fresh(len(ties))
    made = [s for s in slices if s.role == "out"]
    for s in made:
        together.tie(s.ids, np.full_like(s.ids, s.ids[0]))
    roots = together.roots(np.arange(len(ties)))
    members = {int(roots[s.ids[0]]): [] for s in made}
    for s in slices:
        for root in dict.fromkeys(roots[s.ids].tolist()):
            if root in members:
                members[root].append(s)
    return tuple(_group(found, roots, root, ties) for root, found in members.items())


def _group(members, roots, root, ties):
    parts = {role: tuple(s for s in members if s.role == role) for role in ("out", "in", "through")}
    ids = np.concatenate([s.ids for s in parts["out"]])
    channels = np.array(list(dict.fromkeys(ids.tolist())))
    reason = ties.reason(channels)
    if reason:
        ties.freeze(channels, reason)
    return Group(parts["out"][0].layer.name, channels, reason, parts["out"], parts["in"], parts["through"])


def _chosen(group, kept, scores, multiple):
    """One boolean per channel of a group."""
    kept, count, chosen = np.asarray(kept), len(group), np.zeros(len(group), bool)
    if kept.ndim == 0 and kept.dtype.kind in "iu" and 0 < kept <= count:
        number = min(-(-int(kept) // multiple) * multiple, count)
        chosen[importance.order(group, scores())[:number]] = True
    elif kept.ndim == 1 and kept.dtype == bool and len(kept) == count and kept.any():
        chosen = kept
    elif kept.ndim == 1 and len(kept) and kept.dtype.kind in "iu" and kept.min() >= 0 and kept.max() < count:
        chosen[kept] = True
    else:
        raise ValueError(
            f"keep[{group.name!r}]={kept.tolist()!r}: the group has {count} channels. Expected a number from 1 to "
            f"{count}, indices below {count}, or {count} booleans with one True: keep={{{group.name!r}: {count}}}."
        )
    return chosen
