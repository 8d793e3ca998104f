"""DST for models of tf_keras: with thresholds, trained to a target, and plain again."""

import tf_keras

from tfsparse.methods.dst.conversion import chosen_layers
from tfsparse.methods.dst.target_callback import TargetSparsityCallback
from tfsparse.optimizers import masked_layer
from tfsparse.tfmot import kernels
from tfsparse.tfmot.thresholded import Thresholded


def dst(
    model: tf_keras.Model,
    alpha: float = 5e-4,
    threshold: str = "vector",
    exclude=(),
    skip_first: bool = False,
    skip_last: bool = False,
) -> tf_keras.Model:
    """`tfsparse.dst` for a Sequential or Functional model of tf_keras: a copy whose layers have trainable thresholds.

    MultiHeadAttention, which in tf_keras has its kernels only after its first call, stays as it is.

    Args, raises: as for `tfsparse.dst`.

    >>> model = tfsparse.tfmot.dst(model, alpha=5e-4)
    >>> model.compile("sgd", loss="mse"); model.fit(x, y, epochs=20, callbacks=[tfsparse.tfmot.DST(0.9)])
    >>> tfsparse.tfmot.finalize(model).save("sparse.keras")
    """
    _check_cloneable(model)
    chosen = chosen_layers(model, tf_keras.Model, _has_kernels, exclude, skip_first, skip_last)

    def wrapped(layer):
        copy = masked_layer.copy_layer(layer)
        return Thresholded(copy, threshold, alpha) if id(layer) in chosen else copy

    return masked_layer.converted(model, _clone, wrapped)


def finalize(model: tf_keras.Model) -> tf_keras.Model:
    """The plain model: weights multiplied by their masks, thresholds gone.

    Raises: ValueError for a subclassed model.

    >>> tfsparse.tfmot.finalize(model).save("sparse.keras")
    """
    _check_cloneable(model)
    return masked_layer.converted(model, _clone, masked_layer.plain_layer)


class DST(TargetSparsityCallback, tf_keras.callbacks.Callback):
    """`tfsparse.DST` for a model made by `tfsparse.tfmot.dst`: alpha is steered to a sparsity, and the rest cut.

    Args, raises: as for `tfsparse.DST`.

    >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.tfmot.DST(sparsity=0.95)])
    """


def _check_cloneable(model):
    if not isinstance(model, tf_keras.Sequential) and not model._is_graph_network:
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is a subclassed model, whose layers cannot be exchanged. Wrap its "
            "layers where it makes them: self.dense = tfsparse.tfmot.Thresholded(tf_keras.layers.Dense(10))."
        )
    if not model.built:
        raise ValueError(f"Model {model.name!r} has no weights yet: start it with tf_keras.Input(shape).")


def _has_kernels(layer):
    late = isinstance(layer, tf_keras.layers.MultiHeadAttention)
    return not late and any(map(kernels.is_kernel, layer.trainable_variables))


def _clone(model, function):
    def clone(layer):
        return _clone(layer, function) if isinstance(layer, tf_keras.Model) else function(layer)

    return tf_keras.models.clone_model(model, clone_function=clone)
