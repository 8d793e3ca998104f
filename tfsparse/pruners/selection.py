"""Which variables are pruned: the kernels, unless the user says otherwise."""

from collections.abc import Iterable

import keras


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
    if isinstance(item, keras.Variable):
        return [item]
    if not isinstance(item, keras.layers.Layer):
        raise TypeError(
            f"Expected a layer or a variable, got {item!r}. Pass the object, for example model.layers[0], not its name."
        )
    weights = item.trainable_variables
    result = [v for v in weights if is_prunable(v)] or [v for v in weights if len(v.shape) >= 2]
    if not result:
        raise ValueError(f"Layer {item.name!r} has no trainable weight of rank >= 2, so nothing in it can be pruned.")
    return result


def excluded(model, exclude: Iterable = (), skip_first: bool = False, skip_last: bool = False) -> list:
    """Return the variables of a model that stay dense.

    Args:
        model: A Keras model.
        exclude: Layers and variables that stay dense.
        skip_first: True: the first kernel of the model stays dense. Default: False.
        skip_last: True: the last kernel of the model stays dense. Default: False.
    """
    result = [v for item in exclude for v in kernels(item)]
    prunable = [v for v in model.trainable_variables if is_prunable(v)]
    return result + prunable[: int(skip_first)] + prunable[len(prunable) - int(skip_last) :]


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


class Overrides:
    """What the user asked for single variables: a sparsity, or None to leave a variable dense.

    Before the optimizer is built, a variable is known by its identity; after it, by its index among the optimizer's
    trainable variables.

    Args:
        sparsities: `{index: sparsity or None}` of trainable variables.
        dense_names: Parts of variable paths. A variable whose path contains one of them stays dense.
    """

    def __init__(self, sparsities: dict | None = None, dense_names: list[str] | None = None):
        self.sparsities = {int(index): sparsity for index, sparsity in (sparsities or {}).items()}
        self.dense_names = list(dense_names or [])
        self._unresolved = {}

    def set(self, variable, sparsity: float | None) -> None:
        """Request a sparsity for a variable, or None to leave it dense."""
        self._unresolved[id(variable)] = (sparsity, variable.path)

    def has_own_sparsity(self, index: int) -> bool:
        """Return True if the user requested a sparsity for this variable."""
        return self.sparsities.get(index) is not None

    def resolve(self, variables, pruner, sparsity: float) -> dict[int, int]:
        """Return `{index: number of entries to prune}` for the variables that are pruned.

        Raises:
            ValueError: If no variable can be pruned, or if a variable with an override is not trained.
        """
        self._find_indices(variables)
        common = [i for i, v in enumerate(variables) if is_prunable(v) and i not in self.sparsities]
        allocated = pruner.allocate([tuple(variables[i].shape) for i in common], sparsity)
        requested = dict(zip(common, allocated, strict=True))
        requested |= {i: s for i, s in self.sparsities.items() if s is not None}
        counts = {i: pruner.num_prunable(tuple(variables[i].shape), s) for i, s in sorted(requested.items())}
        targets = {i: count for i, count in counts.items() if count > 0 or requested[i] == 0}
        if not targets:
            raise ValueError(
                f"Nothing to prune: none of the {len(variables)} trainable variables is a kernel of rank >= 2 that "
                f"{pruner!r} can prune. Name weights of your own with set_sparsity(variable, {sparsity:g})."
            )
        return targets

    def get_config(self) -> dict:
        """Return what `from_config` accepts."""
        return {"sparsities": {str(i): s for i, s in self.sparsities.items()}, "dense_names": self.dense_names}

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
