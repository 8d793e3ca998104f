"""Every private attribute of Keras, tf_keras and TensorFlow that the package touches, one named function each.

A new release of Keras breaks this file and no other.
"""


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
