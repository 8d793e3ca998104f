"""DST for models of tf_keras: layers with trainable thresholds, training to a target, and plain models again."""

import inspect

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals
from tfsparse.backend.layer_copies import copy_layer, copy_or_share
from tfsparse.methods.dst.conversion import advice, chosen_layers
from tfsparse.methods.dst.layer_core import ThresholdedLayerBase
from tfsparse.methods.dst.target_callback import TargetSparsityCallback
from tfsparse.optimizers import masked_layer
from tfsparse.tfmot import kernels

__all__ = ["DST", "Thresholded", "dst", "finalize"]


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class Thresholded(ThresholdedLayerBase, tf_keras.layers.Wrapper):
    """A layer of tf_keras that prunes itself: weights below trainable thresholds do not count.

        forward:       kernel * 1[|kernel| > threshold]
        backward:      a long-tailed surrogate stands for the derivative of the step
        losses:        + alpha * sum(exp(-threshold))
        after a step:  threshold = 0 where at most `floor` of the kernel lives

    Pruned weights keep their values, are trained on, and return when they grow above their threshold.

    Args:
        layer: A tf_keras layer that keeps its kernels as attributes: Dense, EinsumDense, convolutions, recurrent
            layers, and layers around such layers.
        threshold: One threshold per kernel ("scalar"), per output unit ("vector") or per weight ("matrix"). Default:
            "vector".
        alpha: Weight of the penalty, >= 0; the larger, the sparser. Default: 5e-4.
        floor: Fraction in [0, 1) of living weights at which the thresholds of a kernel start again from 0. Default:
            None, which is 0.01, and 0 for recurrent cells.
        sparsity: Fraction of zeros that all such layers of the model shall have together, in [0, 1): the callback `DST`
            sets it, and what looks at a file compares with it. Default: None, no target.
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Raises:
        ValueError: If the layer has no kernels or does not keep them as attributes, or an option is out of range.

    Source:
        Liu et al., "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers"
        (ICLR 2020), and the authors' code.

    Examples:
        >>> tf_keras.Sequential([tf_keras.Input((784,)), Thresholded(tf_keras.layers.Dense(300), alpha=5e-4)])
    """

    _keras = tf_keras
    _autocast_option = "experimental_autocast"
    _is_kernel = staticmethod(kernels.is_kernel)

    def call(self, inputs, *args, **kwargs):
        """Call the layer with masked kernels in place of its attributes."""
        known = inspect.signature(self.layer.call).parameters
        kwargs = {key: value for key, value in kwargs.items() if key in known or key not in ("training", "mask")}
        with keras_internals.replaced(self._masked_attributes()):
            return self.layer(inputs, *args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def _masked_attributes(self):
        """Return (layer, name, masked kernel) for every attribute that holds a kernel."""
        layers = keras_internals.all_layers(self.layer)
        found = []
        for (owner, kernel), masked in zip(self.owners_and_kernels(), self.masked_kernels(), strict=True):
            holders = [(layer, name) for layer in layers for name, value in vars(layer).items() if value is kernel]
            if not holders:
                raise ValueError(
                    f"{self.layer.name!r} does not keep its kernels as attributes: wrap the layers inside it instead."
                )
            found += [(layer, name, tf.cast(masked, owner.compute_dtype)) for layer, name in holders]
        return found


class DST(TargetSparsityCallback, tf_keras.callbacks.Callback):
    """Bring a model made by `tfsparse.tfmot.dst` to a sparsity.

        some 400 times in a fit:   alpha follows the distance between the schedule and the actual sparsity
        after the last step:       the weights that are left above the target are pruned

    The logs of every epoch have `sparsity` and `alpha`. Those of the last have `uncut_sparsity` and, with `data`, every
    metric before and after the cut.

    Args:
        sparsity: Zeros over entries of all thresholded kernels together, in [0, 1). Default: None: alpha stays as it
            is, nothing is cut, and the callback only writes the logs.
        schedule: The way to the target: a schedule of `tfsparse.schedules`, its name or its config. Default: None,
            `Polynomial(start=0.0, end=0.75)`.
        updates: How often alpha is set in a fit, at most. Default: 400.
        data: What the cut is measured on, `(x, y)` or a dataset. Default: None: it is not measured.

    Raises:
        ValueError: Before the first step, if the model has no thresholds or the dataset is of unknown length.

    Examples:
        >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.tfmot.DST(sparsity=0.95)])
    """


def dst(
    model: tf_keras.Model,
    alpha: float = 5e-4,
    threshold: str = "vector",
    exclude=(),
    skip_first: bool = False,
    skip_last: bool = False,
) -> tf_keras.Model:
    """Return a copy of the model in which every layer with kernels is `Thresholded`.

    Layers keep their names and weights. MultiHeadAttention stays as it is: in tf_keras it has no kernels before its
    first call.

    Args:
        model: A built Sequential or Functional model; models inside are converted too.
        alpha: Weight of the penalty, >= 0; the larger, the sparser. Default: 5e-4.
        threshold: One threshold per kernel ("scalar"), per output unit ("vector") or per weight ("matrix"). Default:
            "vector".
        exclude: Layers to leave as they are, or their names; one or several.
        skip_first: Whether to leave the first layer with a kernel as it is. Default: False.
        skip_last: Whether to leave the last layer with a kernel as it is. Default: False.

    Returns:
        The new model, which must be compiled.

    Raises:
        ValueError: If the model is subclassed or not built, or if no layer is left to prune.

    Examples:
        >>> model = tfsparse.tfmot.dst(model, alpha=5e-4)
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.tfmot.DST(0.9)])
        >>> tfsparse.tfmot.finalize(model).save("sparse.keras")
    """
    _check(model)
    chosen = chosen_layers(model, tf_keras.Model, _has_kernels, exclude, skip_first, skip_last)

    def wrapped(layer):
        return Thresholded(copy_layer(layer), threshold, alpha) if id(layer) in chosen else copy_or_share(layer)

    return masked_layer.converted(model, _clone, wrapped)


def finalize(model: tf_keras.Model) -> tf_keras.Model:
    """Return the plain model, whose outputs are those of `model`: kernels are multiplied by their masks.

    Args:
        model: A model made by `dst`, or another Sequential or Functional model with `Thresholded` layers.

    Returns:
        A model without thresholds, which must be compiled to be trained.

    Raises:
        ValueError: If the model is subclassed or not built.

    Examples:
        >>> tfsparse.tfmot.finalize(model).save("sparse.keras")
    """
    _check(model)
    return masked_layer.converted(model, _clone, masked_layer.plain_layer)


def _check(model):
    kernels.check_tf_keras(model, "tfsparse.dst(model), tfsparse.finalize(model)")
    wrapped = "tfsparse.tfmot.Thresholded(tf_keras.layers.Dense(10))"
    masked_layer.check_is_graph(model, kernels.is_graph(model), advice(wrapped))


def _has_kernels(layer):
    late = isinstance(layer, tf_keras.layers.MultiHeadAttention)
    return not late and any(map(kernels.is_kernel, layer.trainable_variables))


def _clone(model, function):
    def clone(layer):
        return _clone(layer, function) if isinstance(layer, tf_keras.Model) else function(layer)

    return tf_keras.models.clone_model(model, clone_function=clone)
