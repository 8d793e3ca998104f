"""Every private attribute of Keras, tf_keras and TensorFlow that the package touches, one named function each.

A new release of Keras breaks this file and no other.
"""

import contextlib


def all_layers(model) -> list:
    """Return the model itself, its layers, and the layers inside those, at any depth.

    Public `model.layers` knows only the first level, and a layer's own sublayers have no public list.
    """
    return list(model._flatten_layers(include_self=True, recursive=True))


# ---- optimizers ------------------------------------------------------------------------------------------------------


def trained_variables(optimizer) -> list:
    """Return the model variables that a built Keras 3 optimizer trains, in its order.

    `optimizer.variables` holds the optimizer's own state; the list of what it trains has no public name.
    """
    return optimizer._trainable_variables


def variable_index(optimizer, variable) -> int:
    """Return the position of a model variable among those that a built Keras 3 optimizer trains.

    On TensorFlow an optimizer may hand over the backend's own variable, which only this method recognises.
    """
    return optimizer._get_variable_index(variable)


def slots(optimizer, index: int, num_variables: int, weight) -> list:
    """Return the optimizer's variables of one weight: momenta, averages.

    Optimizers of Keras 3 and tf_keras keep them in lists parallel to the variables, under names of their own.
    """
    parallel = [v for v in vars(optimizer).values() if isinstance(v, (list, tuple)) and len(v) == num_variables]
    found = [variables[index] for variables in parallel]
    return [v for v in found if hasattr(v, "assign") and v.shape == weight.shape and v is not weight]


def layout(variable):
    """Return the layout of a variable on the devices of `keras.distribution`, or None.

    A mask must be cut into parts as its weight is; Keras has a setter for layouts and no public getter.
    """
    return getattr(variable, "_layout", None)


# ---- compiled models -------------------------------------------------------------------------------------------------


def compile_arguments(model) -> dict:
    """Return the arguments that the user gave to `model.compile`, as a dict that may be changed.

    `model.get_compile_config()` serialises them, so that losses and metrics would be other objects.
    """
    return model._compile_config.config


# ---- layers ----------------------------------------------------------------------------------------------------------


def has_random_generator(layer) -> bool:
    """Return whether a layer of Keras 3 or tf_keras holds a generator of random numbers itself.

    Dropout, noise and augmentation have no class in common, and neither Keras lists generators in public.
    """
    generators = ("SeedGenerator", "RandomGenerator")
    return any(type(value).__name__ in generators for value in vars(layer).values())


def steps_per_execution(model) -> int:
    """Return how many steps one call of the compiled training function makes.

    Keras 3 has a public attribute; tf_keras keeps a private variable.
    """
    return int(getattr(model, "steps_per_execution", None) or model._steps_per_execution)


def frozen_statistics(layer) -> list:
    """Return the replacements with which a tf_keras BatchNormalization in training leaves its moving statistics alone.

    Each is `(object, name of a method, what stands in its place)`. In public it either updates them or normalises by
    them.
    """

    def unchanged(variable, *_, **__):
        return variable

    return [(layer, name, unchanged) for name in ("_assign_moving_average", "_assign_new_value")]


@contextlib.contextmanager
def replaced(attributes):
    """Replace attributes of objects inside of a `with`.

    They are written to `__dict__`: Keras's layers track what is set in public, and would lose variables.

    Args:
        attributes: List of `(object, name of the attribute, value inside of the with)`.

    Yields:
        Nothing.
    """
    before = [(vars(item), name, vars(item).get(name)) for item, name, _ in attributes]
    for item, name, value in attributes:
        vars(item)[name] = value
    try:
        yield
    finally:
        for items, name, value in before:
            del items[name]
            if value is not None:
                items[name] = value


def own_trainable_variables(layer) -> list:
    """Return the trainable variables that a layer of Keras 3 or tf_keras has itself, frozen or not.

    Public `layer.trainable_variables` adds those of the layers inside, and is empty for a frozen layer.
    """
    return layer._trainable_variables if hasattr(layer, "_trainable_variables") else layer._trainable_weights


def is_functional(model) -> bool:
    """Return whether a model of Keras 3 or tf_keras is Functional, as `Model(inputs, outputs)` makes it.

    The class of `Model(inputs, outputs)` has no public name; tf_keras marks such models in private.
    """
    return hasattr(model, "operations") or getattr(model, "_is_graph_network", False)


# ---- graphs of Keras 3 models ----------------------------------------------------------------------------------------


def graph(model):
    """Return the graph of a Functional or built Sequential model; None for anything else.

    A Sequential model keeps a Functional one inside, and neither has a public name for the nodes of its graph.
    """
    inner = getattr(model, "_functional", None) or model
    return inner if hasattr(inner, "_nodes_by_depth") else None


def nodes(graph) -> list:
    """Return all calls of layers and operations in a graph, each after the calls whose outputs it needs.

    `model.layers` and `model.operations` list what is called, not how often and on what.
    """
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def operation_of(tensor):
    """Return the layer or operation that made a `KerasTensor`.

    The classes of operations such as `x + y` have no public names, so they are known by their results.
    """
    return tensor._keras_history.operation
