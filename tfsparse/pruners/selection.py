"""Which variables are pruned: the kernels, unless the user says otherwise."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras

from tfsparse.backend import keras_internals
from tfsparse.masks import topk
from tfsparse.pruners.reached import Reached, reached_by, warn_of_missed


def is_prunable(variable) -> bool:
    """Return True for kernels of rank >= 2.

    These are the kernels of Dense, EinsumDense (so of attention), all convolutions and recurrent cells. Biases,
    normalisations and embeddings are not pruned.
    """
    return variable.name.endswith("kernel") and len(variable.shape) >= 2


def kernels(item) -> list:
    """Return the variables to prune in a layer or model: its kernels, or if it has none its weights of rank >= 2.

    Args:
        item: A variable, which is returned in a list as it is, or a layer, or a model.

    Raises:
        TypeError: If `item` is something else.
        ValueError: If the layer has no trainable weight of rank >= 2.
    """
    weights = matrices(item)
    return [v for v in weights if is_prunable(v)] or weights


def matrices(item) -> list:
    """Return the trainable weights of rank >= 2 of a layer or model: what stays dense if it is excluded.

    Args:
        item: A variable, which is returned in a list as it is, or a layer, or a model.

    Raises:
        TypeError: If `item` is something else.
        ValueError: If the layer has no trainable weight of rank >= 2.
    """
    if isinstance(item, keras.Variable):
        return [item]
    if not isinstance(item, keras.layers.Layer):
        raise TypeError(f"Expected a layer, its name or a variable, got {item!r}: pass for example model.layers[0].")
    result = [v for v in item.trainable_variables if len(v.shape) >= 2]
    if not result:
        raise ValueError(f"Layer {item.name!r} has no trainable weight of rank >= 2, so nothing in it can be pruned.")
    return result


def layers_named(model, item) -> list:
    """Return what `item` stands for in a model: all layers of this name for a text, else the item itself.

    Raises:
        ValueError: If no layer has the name.
    """
    if not isinstance(item, str):
        return [item]
    layers = [layer for layer in keras_internals.all_layers(model) if layer.name == item]
    if not layers:
        names = ", ".join(dict.fromkeys(layer.name for layer in model.layers))
        raise ValueError(f"Model {model.name!r} has no layer {item!r}. Its layers are: {names}.")
    return layers


class Bounds(NamedTuple):
    """The sparsities between which a weight competes with others for a common target.

    Attributes:
        least: In [0, 1).
        largest: In (0, 1]; 1: no bound of the user's.
    """

    least: float
    largest: float


class Choice:
    """What a user chose of a model that may have no weights yet: targets of single weights, and what stays dense.

    Args:
        sparsities: `{layer: sparsity}`, or pairs of a layer, its name or a variable and its sparsity. A sparsity is a
            number, or a pair of the least and the largest for a weight that competes for a global target.
        exclude: Layers, their names and variables that stay dense, or one of them.
        skip_first: Whether the first kernel of the model stays dense. Default: False.
        skip_last: Whether the last kernel of the model stays dense. Default: False.
        min_sparsity: Least sparsity of each weight that competes for a global target, in [0, 1). Default: 0.0.
        max_sparsity: Largest sparsity of each of these, in (0, 1]. Default: 1.0.
    """

    def __init__(
        self,
        sparsities=(),
        exclude=(),
        skip_first: bool = False,
        skip_last: bool = False,
        min_sparsity: float = 0.0,
        max_sparsity: float = 1.0,
    ):
        self.sparsities = [(item, _check_target(target)) for item, target in as_pairs(sparsities)]
        self.bounds = common_bounds(min_sparsity, max_sparsity)
        self.exclude = [exclude] if isinstance(exclude, (str, keras.Variable, keras.layers.Layer)) else list(exclude)
        self.skip_first, self.skip_last = skip_first, skip_last

    def resolve(self, model) -> list[tuple]:
        """Return pairs of a variable and its sparsity, its `Bounds`, or None if it stays dense.

        What is frozen stays as it is, so nothing is returned for frozen layers and variables of `exclude`.
        """
        given = [(v, s) for item, s in self.sparsities for found in layers_named(model, item) for v in kernels(found)]
        layers = [layer for item in self.exclude for layer in layers_named(model, item)]
        excluded = [v for layer in layers if not _is_frozen(layer) for v in matrices(layer)]
        chosen = {id(v) for v, _ in given}
        dense = [v for v in excluded if is_prunable(v) or id(v) not in chosen]  # a weight of its own may be chosen
        prunable = [v for v in model.trainable_variables if is_prunable(v)]
        dense += prunable[: int(self.skip_first)] + prunable[len(prunable) - int(self.skip_last) :]
        named = {id(v) for v, _ in given} | {id(v) for v in dense}
        bounded = [v for v in prunable if id(v) not in named] if self.bounds != (0, 1) else []
        return [(v, self.bounds) for v in bounded] + given + [(v, None) for v in dense]


def _is_frozen(item):
    if isinstance(item, keras.Variable):
        return not item.trainable
    return isinstance(item, keras.layers.Layer) and bool(item.weights) and not item.trainable_variables


def as_pairs(sparsities) -> list[tuple]:
    """Return `[(layer or variable, sparsity)]` from such a list or from a dict. Keras variables cannot be dict keys."""
    return list(sparsities.items() if hasattr(sparsities, "items") else sparsities)


def check_sparsity(sparsity, name: str = "sparsity") -> float:
    """Return a sparsity as a float.

    Args:
        sparsity: An int or a float in [0, 1).
        name: Name of the argument in the error message. Default: "sparsity".

    Raises:
        ValueError: If it is not a number in [0, 1). If it looks like a percentage, the message says so.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        is_percentage = isinstance(sparsity, (int, float)) and 1 < sparsity < 100
        hint = f" Did you mean {name}={sparsity / 100:g}?" if is_percentage else ""
        raise ValueError(
            f"{name}={sparsity!r}: expected the fraction of zeros, a number in [0, 1), for example {name}=0.9.{hint}"
        )
    return float(sparsity)


def _check_target(target):
    return _check_bounds(target, "sparsity") if isinstance(target, (tuple, list)) else check_sparsity(target)


def common_bounds(min_sparsity: float, max_sparsity: float) -> Bounds:
    """Return the bounds of all weights that compete for a global target.

    Raises:
        ValueError: If not 0 <= min_sparsity < max_sparsity <= 1.
    """
    return _check_bounds((min_sparsity, max_sparsity), "(min_sparsity, max_sparsity)")


def check_within_bounds(sparsity: float, sizes: Sequence[int], bounds: Sequence[Bounds | None]) -> None:
    """Refuse bounds that weights with one threshold cannot have.

    Args:
        sparsity: Target of all weights together.
        sizes: Entries of each weight.
        bounds: Its bounds; None: it keeps at least a tenth of what it would keep if all had the same sparsity.

    Raises:
        ValueError: If the bounds do not allow the target.
    """
    size, by_default = sum(sizes), Bounds(0.0, 1 - (1 - sparsity) / 10)
    pairs = [(n, bound or by_default) for n, bound in zip(sizes, bounds, strict=True)]
    least = sum(n * bound.least for n, bound in pairs) / size
    largest = sum(n * max(bound.least, min(bound.largest, by_default.largest)) for n, bound in pairs) / size
    if not least <= sparsity <= largest:
        raise ValueError(
            f"sparsity={sparsity:g} of all weights together is not within the bounds of the single weights, which "
            f"allow {least:.4g} to {largest:.4g}: write wider bounds or another sparsity."
        )


def _check_bounds(bounds, name):
    if len(bounds) != 2 or not all(isinstance(b, (int, float)) for b in bounds) or not 0 <= bounds[0] < bounds[1] <= 1:
        raise ValueError(
            f"{name}={bounds!r}: expected the least and the largest fraction of zeros, 0 <= least < largest <= 1, for "
            "example (0.5, 0.95)."
        )
    return Bounds(*map(float, bounds))


class Overrides:
    """What the user asked for single variables: a sparsity, `Bounds`, or None to leave a variable dense.

    Before the optimizer is built, a variable is known by its identity; after it, by its index among the optimizer's
    trainable variables.

    Args:
        sparsities: `{index: sparsity, Bounds or None}` of trainable variables.
        dense_names: Parts of variable paths. A variable whose path contains one of them stays dense.

    Attributes:
        deferred: Returns further pairs of a variable and its sparsity, when the weights of the model exist.
    """

    def __init__(self, sparsities: dict | None = None, dense_names: list[str] | None = None):
        self.sparsities = {int(i): Bounds(*s) if isinstance(s, list) else s for i, s in (sparsities or {}).items()}
        self.dense_names = list(dense_names or [])
        self._unresolved = {}
        self.deferred = list

    def set(self, variable, sparsity: float | Bounds | None) -> None:
        """Request a sparsity or bounds for a variable, or None to leave it dense."""
        self._unresolved[id(variable)] = (sparsity, variable.path)

    def contain(self, variables, requested: Iterable[tuple]) -> bool:
        """Return True if all pairs of a variable and its sparsity or None are among the overrides.

        Args:
            variables: The trainable variables of the optimizer.
            requested: The pairs.
        """
        index = {id(v): i for i, v in enumerate(variables)}
        missing = object()

        def present(variable):
            return self.sparsities.get(index.get(id(variable)), missing if is_prunable(variable) else None)

        return all(present(v) == sparsity for v, sparsity in requested)

    def has_own_sparsity(self, index: int) -> bool:
        """Return True if the user requested a sparsity for this variable."""
        return isinstance(self.sparsities.get(index), float)

    def bounds(self, index: int) -> Bounds | None:
        """Return the bounds that the user requested for this variable; None if there are none."""
        bounds = self.sparsities.get(index)
        return bounds if isinstance(bounds, Bounds) else None

    def resolve(self, variables, pruner, sparsity: float) -> dict[int, int]:
        """Return `{index: number of entries to prune}` for the variables that are pruned.

        Raises:
            ValueError: If a variable with an override is not trained, or if bounds cannot be met.
        """
        for variable, own in self.deferred():
            self.set(variable, own)
        self.deferred = list
        self._find_indices(variables)
        self._check_sizes(variables)
        requested, targets, shared = self._counts(variables, pruner, sparsity)
        common = [i for i in targets if self._shares_target(i, variables[i])]
        self._check_bounds(pruner, {i: math.prod(variables[i].shape) for i in common}, sparsity)
        warn_of_missed(pruner, _reached(variables, requested, targets, shared))
        return targets

    def counts(self, variables, pruner, sparsity: float) -> dict[int, int]:
        """Return what `resolve` returns, for a lower sparsity than the one for which it has checked all."""
        return self._counts(variables, pruner, sparsity)[1]

    def _counts(self, variables, pruner, sparsity):
        """Return by index the requested sparsities and the entries to prune, and which weights share one target."""
        common = [i for i, v in enumerate(variables) if self._shares_target(i, v)]
        allocated = pruner.allocate([tuple(variables[i].shape) for i in common], sparsity)
        requested = dict(zip(common, allocated, strict=True))
        # a loaded model may have fewer trainable variables than when it was saved
        requested |= {i: s for i, s in self.sparsities.items() if self.has_own_sparsity(i) and i < len(variables)}
        counts = {i: pruner.num_prunable(tuple(variables[i].shape), s) for i, s in sorted(requested.items())}
        targets = {i: count for i, count in counts.items() if count > 0 or requested[i] == 0}
        shared = [i for i in common if i in targets] if pruner.is_global else []
        if shared:
            together = pruner.num_prunable_together([tuple(variables[i].shape) for i in shared], sparsity)
            targets |= dict(zip(shared, together, strict=True))
        return requested, targets, shared

    def _check_sizes(self, variables):
        """Refuse to prune a weight whose entries cannot be counted in int32."""
        for index, variable in enumerate(variables):
            size = math.prod(variable.shape)
            is_dense = self.sparsities.get(index, 0) is None or not (is_prunable(variable) or index in self.sparsities)
            if size > topk.MAX_SIZE and not is_dense:
                raise ValueError(
                    f"{variable.path} has {size:,} entries, and a weight that is pruned may have {topk.MAX_SIZE:,}: "
                    "split it into several layers, or leave it dense with exclude=[layer]."
                )

    def _shares_target(self, index, variable):
        return bool(self.bounds(index)) or (is_prunable(variable) and index not in self.sparsities)

    def _check_bounds(self, pruner, sizes, sparsity):
        """Refuse bounds that weights with one threshold cannot have, given the number of entries of each weight."""
        bounds = {i: self.bounds(i) for i in sizes}
        if not any(bounds.values()):
            return
        if not pruner.is_global:
            first = next(filter(None, bounds.values()))
            raise ValueError(
                f"{pruner!r} prunes each weight to its own target, so the bounds {tuple(first)} have no meaning: write "
                "a sparsity in their place, or a pruner with one threshold, Magnitude()."
            )
        check_within_bounds(sparsity, list(sizes.values()), list(bounds.values()))

    def get_config(self) -> dict:
        """Return what `from_config` accepts."""
        sparsities = {str(i): list(s) if isinstance(s, Bounds) else s for i, s in self.sparsities.items()}
        return {"sparsities": sparsities, "dense_names": self.dense_names}

    @classmethod
    def from_config(cls, config: dict) -> "Overrides":
        """Create the overrides that `get_config` described. Older files call the keys `places` and `words`."""
        old = {"places": "sparsities", "words": "dense_names"}
        return cls(**{old.get(key, key): value for key, value in config.items()})

    def _find_indices(self, variables):
        for i, variable in enumerate(variables):
            if id(variable) in self._unresolved:
                self.sparsities[i] = self._unresolved.pop(id(variable))[0]
            elif any(name in variable.path for name in self.dense_names):
                self.sparsities[i] = None
        if self._unresolved:
            _, path = next(iter(self._unresolved.values()))
            raise ValueError(f"{path} is not among the trainable variables of this optimizer. Is its layer frozen?")


def _reached(variables, requested, targets, shared) -> list[Reached]:
    """Return what is reached by each weight, pruned or not, and by those together that share one target."""
    rows = {i: reached_by(variables[i], wanted, targets.get(i, 0)) for i, wanted in requested.items()}
    if shared:
        _, sizes, sparsities, zeros = zip(*map(rows.pop, shared), strict=True)
        rows["together"] = Reached("all weights together", sum(sizes), sparsities[0], sum(zeros))
    return list(rows.values())
