"""Connections around convolutions that only training has."""

import keras
from keras import ops

from tfsparse.backend.layer_copies import copy_or_share
from tfsparse.optimizers import masked_layer
from tfsparse.optimizers.masked_layer import TrainingConnection

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_NONE = keras.activations.linear
_FIRST_WEIGHT = 1e-4


@keras.saving.register_keras_serializable(package="tfsparse")
class GhostSkip(TrainingConnection, keras.layers.Layer):
    """A connection around a convolution, which fades out in training.

        forward:   y + share * BatchNormalization(conv1x1(x))

    The callback `ToST` brings the share from 1 to 0. `tfsparse.ghost_skips` puts it into a model, and
    `tfsparse.finalize` takes it out again. Pruners leave its weights alone.

    Args:
        strides: Strides of the convolution around which it goes, >= 1: one number for all axes, or one for each.
            Default: 1.
        data_format: "channels_last", "channels_first", or None for Keras's default. Default: None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call it on a list `[y, x]`: `y` is what the convolution and its BatchNormalization made of `x`.

    Attributes:
        share: Variable in [0, 1], which is not trained.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022). All weights of the 1x1
        convolution are 1e-4 at first, as in the authors' code. That they fade out is the paper's; its schedule is not
        known to us, and the authors' code never lowers the share.

    Examples:
        >>> y = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 3, padding="same")(x))
        >>> y = tfsparse.GhostSkip()([y, x])
    """

    def __init__(self, strides: int | tuple[int, ...] = 1, data_format: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.strides, self.data_format = strides, data_format or keras.config.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else -1
        self.normalization = keras.layers.BatchNormalization(self._axis, dtype=self.dtype_policy, name="normalization")

    def build(self, input_shape):
        output, source = input_shape
        shape = (*[1] * (len(source) - 2), source[self._axis], output[self._axis])
        self.skip = self.add_weight(
            shape=shape, initializer=keras.initializers.Constant(_FIRST_WEIGHT), name="skip"
        )  # not "kernel": it is not pruned
        self.share = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", autocast=False, name="share"
        )
        self.normalization.build(output)
        super().build(input_shape)

    def call(self, inputs, training=None):
        output, source = inputs
        around = ops.conv(source, self.skip, self.strides, padding="same", data_format=self.data_format)
        return output + ops.cast(self.share, output.dtype) * self.normalization(around, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "strides": self.strides, "data_format": self.data_format}

    @property
    def own_variables(self):
        return self.variables

    def check_ended(self) -> None:
        share = float(ops.convert_to_numpy(self.share))
        if share:
            raise ValueError(
                f"{self.name!r} still adds {share:g} of its connection: train to the end with "
                "callbacks=[tfsparse.ToST()], and finalize then."
            )


def ghost_skips(model: keras.Model) -> keras.Model:
    """Return a copy of the model with a `GhostSkip` around every convolution that a BatchNormalization follows.

    The convolution keeps the size of its input, but for strides: `padding="same"`. Layers keep their names and weights,
    the copy shares no weight with the model, and the model stays as it is. Any pruner trains the copy, with the
    callback `ToST`, which fades the connections out; `finalize` takes them out.

    Args:
        model: A built Functional model; Functional models inside are converted too.

    Returns:
        The new model, which must be compiled. It computes something else than `model` until the connections are gone.

    Raises:
        ValueError: If the model is not Functional or not built, or has no such convolution.

    Source:
        Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022).

    Examples:
        >>> model = tfsparse.ghost_skips(tfsparse.tost(model))
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.98, "rigl"), tfsparse.ToST()])
        >>> tfsparse.finalize(model).save("sparse.keras")
    """
    masked_layer.check_cloneable(model, "Where it makes its layers write y = tfsparse.GhostSkip()([y, x]).")
    if isinstance(model, keras.Sequential):
        raise ValueError(
            f"{model.name!r} is Sequential, which has no connections around layers: write "
            "model = tfsparse.ghost_skips(keras.Model(model.inputs, model.outputs))."
        )
    connected = masked_layer.converted(model, _clone, copy_or_share)
    if not masked_layer.training_connections(connected):
        raise ValueError(
            f'Nothing to connect: no convolution with padding="same" of {model.name!r} is followed by a '
            "BatchNormalization."
        )
    return connected


def _clone(model, function):
    convolutions = {}  # id of an output of a convolution -> (the convolution, its input)

    def call(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        if isinstance(layer, _CONVOLUTIONS) and layer.padding == "same" and layer.activation is _NONE:
            convolutions[id(output)] = layer, args[0], output  # the output, too: an id is that of a living object
        if isinstance(layer, keras.layers.BatchNormalization) and id(args[0]) in convolutions:
            conv, source, _ = convolutions[id(args[0])]
            options = {"name": f"{conv.name}_ghost_skip", "dtype": conv.dtype_policy, "data_format": conv.data_format}
            return GhostSkip(conv.strides, **options)([output, source])
        return output

    return masked_layer.clone_model(model, function, call)
