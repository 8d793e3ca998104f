"""Every private attribute of Keras, tf_keras and TensorFlow that the package touches, one named function each.

A new release of Keras breaks this file and no other.
"""


def all_layers(model) -> list:
    """Return the model itself, its layers, and the layers inside those, at any depth.

    Public `model.layers` knows only the first level, and a layer's own sublayers have no public list.
    """
    return list(model._flatten_layers(include_self=True, recursive=True))
