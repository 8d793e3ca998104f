"""What is pruned unless the user says otherwise: the kernels."""

from collections.abc import Iterable

import keras


def is_prunable(variable) -> bool:
    """Kernels of rank >= 2: Dense, EinsumDense (so attention), all convolutions, recurrent cells; not biases, norms,
    embeddings."""
    return variable.name.endswith("kernel") and len(variable.shape) >= 2


def kernels(item) -> list:
    """The variables meant by a variable, a layer or a model: its kernels, or where it has none its larger weights.

    Raises: TypeError for anything else, ValueError for a layer without weights to prune.
    """
    if isinstance(item, keras.Variable):
        return [item]
    if not isinstance(item, keras.layers.Layer):
        raise TypeError(
            f"Expected a layer or a variable, got {item!r}. Pass the object, for example model.layers[0], not its name."
        )
    weights = item.trainable_variables
    found = [v for v in weights if is_prunable(v)] or [v for v in weights if len(v.shape) >= 2]
    if not found:
        raise ValueError(f"Layer {item.name!r} has no trainable weight of rank >= 2, so nothing in it can be pruned.")
    return found


def excluded(model, exclude: Iterable = (), skip_first: bool = False, skip_last: bool = False) -> list:
    """The variables that the options leave dense."""
    result = [v for item in exclude for v in kernels(item)]
    prunable = [v for v in model.trainable_variables if is_prunable(v)]
    return result + prunable[: int(skip_first)] + prunable[len(prunable) - int(skip_last) :]


def pairs(sparsities) -> list[tuple]:
    """(layer or variable, sparsity) from `{layer: sparsity}` or from pairs: Keras's variables cannot be keys."""
    return list(sparsities.items() if hasattr(sparsities, "items") else sparsities)


def check_sparsity(sparsity, what: str = "sparsity") -> float:
    """`sparsity` as a float in [0, 1).

    Raises: ValueError; a percentage is recognised.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        percent = isinstance(sparsity, (int, float)) and 1 < sparsity < 100
        hint = f" Did you mean {what}={sparsity / 100:g}?" if percent else ""
        raise ValueError(
            f"{what}={sparsity!r}: expected the fraction of zeros, a number in [0, 1), for example {what}=0.9.{hint}"
        )
    return float(sparsity)


class Overrides:
    """What the user asked of single variables: a sparsity, or None to leave one dense.

    Variables are known by identity until the optimizer is built and by their place among its variables after.
    """

    def __init__(self, places: dict | None = None, words: list[str] | None = None):
        self.places = {int(place): sparsity for place, sparsity in (places or {}).items()}
        self.words = list(words or [])
        self._objects = {}

    def set(self, variable, sparsity: float | None) -> None:
        """Ask `sparsity` of a variable, or None to leave it dense."""
        self._objects[id(variable)] = (sparsity, variable.path)

    def fixed(self, place: int) -> bool:
        """True if a sparsity was asked of this very variable."""
        return self.places.get(place) is not None

    def resolve(self, variables, pruner, sparsity: float) -> dict[int, int]:
        """`{place: entries to prune}` for the variables that are pruned.

        Raises: ValueError if none is, or if a wish is for a variable that the optimizer does not train.
        """
        self._find_places(variables)
        common = [i for i, v in enumerate(variables) if is_prunable(v) and i not in self.places]
        shares = pruner.allocate([tuple(variables[i].shape) for i in common], sparsity)
        wanted = dict(zip(common, shares, strict=True)) | {i: s for i, s in self.places.items() if s is not None}
        counts = {i: pruner.num_prunable(tuple(variables[i].shape), s) for i, s in sorted(wanted.items())}
        targets = {i: c for i, c in counts.items() if c > 0 or wanted[i] == 0}
        if not targets:
            raise ValueError(
                f"Nothing to prune: none of the {len(variables)} trainable variables is a kernel of rank >= 2 that "
                f"{pruner!r} can prune. Name weights of your own with set_sparsity(variable, {sparsity:g})."
            )
        return targets

    def get_config(self) -> dict:
        """What `Overrides(**config)` takes back."""
        return {"places": {str(k): v for k, v in self.places.items()}, "words": self.words}

    def _find_places(self, variables):
        for i, variable in enumerate(variables):
            if id(variable) in self._objects:
                self.places[i] = self._objects.pop(id(variable))[0]
            elif any(word in variable.path for word in self.words):
                self.places[i] = None
        if self._objects:
            _, path = next(iter(self._objects.values()))
            raise ValueError(f"{path} is not among the trainable variables of this optimizer. Is its layer frozen?")
