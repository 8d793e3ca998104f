"""DST's layer for tf_keras."""

import contextlib
import inspect

import tensorflow as tf
import tf_keras

from tfsparse.methods.dst.layer_core import ThresholdedLayerBase
from tfsparse.tfmot import kernels


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class Thresholded(ThresholdedLayerBase, tf_keras.layers.Wrapper):
    """`tfsparse.Thresholded` for a layer of tf_keras: the same masks, thresholds, penalty and reset.

    Args and source: as for `tfsparse.Thresholded`.

    Raises: ValueError for a layer without kernels, one that does not keep them as attributes, and options out of range.

    >>> tf_keras.Sequential([tf_keras.Input((784,)), Thresholded(tf_keras.layers.Dense(300), alpha=5e-4)])
    """

    _keras, _uncast = tf_keras, {"experimental_autocast": False}

    def call(self, inputs, *args, **kwargs):
        """As the layer's own, with masked kernels for its attributes for the time of the call."""
        known = inspect.signature(self.layer.call).parameters
        kwargs = {key: value for key, value in kwargs.items() if key in known or key not in ("training", "mask")}
        owners = [owner for owner, _ in self._owned()]
        values = [tf.cast(m, owner.compute_dtype) for m, owner in zip(self._masked(), owners, strict=True)]
        with _exchanged(self.layer, self.kernels, values):
            return self.layer(inputs, *args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def _kernels_of(self, layer):
        return [v for v in layer._trainable_weights if kernels.is_kernel(v)]


@contextlib.contextmanager
def _exchanged(layer, variables, values):
    """Tensors in place of the attributes that hold some variables; past tf_keras's tracking, which would lose them."""
    places = [(attributes, name) for attributes in map(vars, layer._flatten_layers()) for name in attributes]
    found = [(a, name, v, new) for v, new in zip(variables, values, strict=True) for a, name in places if a[name] is v]
    if len({id(v) for _, _, v, _ in found}) < len(variables):
        raise ValueError(f"{layer.name!r} does not keep its kernels as attributes: wrap the layers inside it instead.")
    for attributes, name, _, new in found:
        attributes[name] = new
    try:
        yield
    finally:
        for attributes, name, variable, _ in found:
            attributes[name] = variable
