"""Weights of rank 2 or more that stay dense because nobody chose them, and the line that chooses them."""

import warnings

from tfsparse.backend import keras_internals
from tfsparse.pruners import selection

NO_KERNEL = "its name does not end in 'kernel'"
TOO_FEW_UNITS = "whole units of this shape come no nearer to the target"

_LIBRARIES = {"keras", "tf_keras", "tfsparse"}  # all matrices of their layers that can be pruned are named kernel
_EMBEDDINGS = {"embedding", "embeddings", "embed", "emb"}
_TABLES = {"bias", "scale", "gamma", "beta", "alpha", "pos", "position", "positional", "encoding", "table", "token"}
_MAX_NAMED = 4


def owners(model) -> dict[int, list]:
    """Return `{id of a weight: the layers that have it themselves}` for the weights that are trained unless frozen.

    Args:
        model: A model of Keras 3 or tf_keras.
    """
    found = {}
    for layer in keras_internals.all_layers(model):
        for variable in keras_internals.own_trainable_variables(layer):
            found.setdefault(id(variable), []).append(layer)
    return found


def could_be_pruned(variable, layers) -> bool:
    """Return whether a weight of a layer of one's own is like a kernel and not named so.

    Vectors with axes of length 1, such as class tokens, are not, nor what its name calls an embedding, a bias, a scale
    or a table of positions. The layers of Keras name all their kernels.

    Args:
        variable: A weight of Keras 3 or tf_keras.
        layers: The layers that have it.
    """
    name = _name(variable)
    is_matrix = sum(size > 1 for size in variable.shape) > 1 and not name.endswith("kernel")
    is_own = not any(type(layer).__module__.partition(".")[0] in _LIBRARIES for layer in layers)
    return is_matrix and is_own and not set(name.lower().split("_")) & (_EMBEDDINGS | _TABLES)


def reason(variable, layers, sparsity: float = 0.5) -> str:
    """Return why a weight that is no kernel is not pruned, and the line that prunes it.

    Args:
        variable: A weight of a Keras 3 model.
        layers: The layers that have it.
        sparsity: The sparsity in this line. Default: 0.5.
    """
    if variable.name.startswith("lora_") and any(getattr(layer, "lora_enabled", False) for layer in layers):
        before = "tfsparse.merge_lora(model)"
        return f"LoRA trains it; model.save fills the zeros of its kernel, unless you call {before} before"
    line = f"Prune(sparsities=[({_item(variable, layers)}, {sparsity:g})])"
    if could_be_pruned(variable, layers):
        return f"{NO_KERNEL}, write {line}"
    is_embedding = _EMBEDDINGS & set(_name(variable).lower().split("_"))
    kind = "embeddings" if is_embedding else "weights that are no kernels"
    return f"{_tied(layers)}{kind} are pruned only if they are chosen, {line}"


def resolve(choice: selection.Choice, model, sparsity: float) -> list[tuple]:
    """Return what a user chose of a model; a warning names weights that could be pruned and that nobody chose.

    Nothing is named with a sparsity of 0, which prunes only what is chosen.

    Args:
        choice: The user's choice.
        model: A Keras 3 model with weights.
        sparsity: The target of what is not chosen.
    """
    chosen, layers = choice.resolve(model), owners(model)
    undecided = layers.keys() - {id(v) for v, _ in chosen}
    left = [v for v in model.trainable_variables if id(v) in undecided and could_be_pruned(v, layers[id(v)])]
    if left and sparsity:
        items = dict.fromkeys(_item(v, layers[id(v)]) for v in left)
        named = [f"{v.path} {tuple(v.shape)} stays dense: {reason(v, layers[id(v)], sparsity)}" for v in left]
        more = f"; and {len(left) - _MAX_NAMED} more, see tfsparse.report(model)" if left[_MAX_NAMED:] else ""
        warnings.warn(
            f"{'; '.join(named[:_MAX_NAMED])}{more}. What is to stay dense: exclude=[{', '.join(items)}].", stacklevel=2
        )
    return chosen


def warn_of_variables(variables, sparsity: float) -> None:
    """Warn of weights that nobody chose and that look like kernels by their name and shape, where no layer is known.

    Nothing is named with a sparsity of 0, which prunes only what is chosen.

    Args:
        variables: Weights of Keras 3 that are trained, and that the user has neither chosen nor excluded.
        sparsity: The target of what is not chosen.
    """
    left = [v for v in variables if could_be_pruned(v, ()) and not v.name.startswith("lora_")]
    if left and sparsity:
        named = [f"{v.path} {tuple(v.shape)} stays dense: {NO_KERNEL}" for v in left[:_MAX_NAMED]]
        more = f"; and {len(left) - _MAX_NAMED} more" if left[_MAX_NAMED:] else ""
        warnings.warn(
            f"{'; '.join(named)}{more}. Before the optimizer is built, write optimizer.set_sparsity(variable, "
            f"{sparsity:g}), or to leave it dense optimizer.exclude_from_pruning(var_names=[{left[0].path!r}]).",
            stacklevel=3,
        )


def _name(variable):
    return variable.name.split("/")[-1].split(":")[0]  # in tf_keras it is "cell/w:0"


def _item(variable, layers):
    """Return how to write a weight in `sparsities` and `exclude`: by its layer's name if that means it alone."""
    layer = layers[0]
    if layer.trainable and all(could_be_pruned(v, [layer]) for v in selection.matrices(layer)):
        return repr(layer.name)
    if getattr(layer, variable.name, None) is variable:
        return f"layer.{variable.name}"
    public = [name for name, value in vars(layer).items() if value is variable and not name.startswith("_")]
    index = next(i for i, v in enumerate(layer.weights) if v is variable)
    return f"layer.{public[0]}" if public else f"layer.weights[{index}]"


def _tied(layers):
    """Return the beginning of a reason: what else computes with the weight, or nothing."""
    if len(layers) > 1:
        return f"it is tied, {' and '.join(layer.name for layer in layers)} share it; "
    is_reversible = getattr(layers[0], "tie_weights", False)
    return f"it is tied, {layers[0].name} also computes the output with it; " if is_reversible else ""
