"""Names of the weights of a model that no two of them share."""

import collections


def weight_names(model) -> dict[int, str]:
    """Return `{id(variable): name}` for all weights of a model.

    A name is the variable's path. Layers of one name in two models inside a model give their variables one path: from
    the second one on the name is `path#2`, `path#3`, in the order of `model.weights`.

    Args:
        model: A Keras 3 model.

    Examples:
        >>> weight_names(model)[id(model.layers[0].kernel)]
        'dense/kernel'
    """
    names, count = {}, collections.Counter()
    for variable in model.weights:
        count[variable.path] += 1
        number = count[variable.path]
        names[id(variable)] = variable.path if number == 1 else f"{variable.path}#{number}"
    return names
