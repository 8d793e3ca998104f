"""Networks that train fast on a CPU: dense ones, LeNets, and an LSTM that reads images row by row."""

import math

from keras import layers

from tfsparse.experiments.zoo import initializers
from tfsparse.experiments.zoo.architecture import architecture, logits


@architecture()
def mlp(inputs, num_classes: int, widths: tuple[int, ...] = (256, 128), initializer: str = "keras"):
    """Flatten, then one dense ReLU layer per width."""
    if not isinstance(widths, list | tuple):
        raise ValueError("expected a list of whole numbers as widths, such as [256, 128].")
    x = layers.Flatten(name="flatten")(inputs)
    for i, width in enumerate(widths, start=1):
        x = _dense(x, width, f"dense{i}", initializer)
    return _logits(x, num_classes, initializer)


@architecture()
def lenet_300_100(inputs, num_classes: int, initializer: str = "keras"):
    """LeCun et al. 1998 without convolutions: 300 and 100 ReLU units; 266,610 parameters on MNIST."""
    return mlp(inputs, num_classes, (300, 100), initializer)


@architecture(min_side=16)
def lenet_5(inputs, num_classes: int, initializer: str = "keras", activation: str = "linear"):
    """The LeNet-5 of Caffe's MNIST example, whose one ReLU follows the 500 units; 431,080 parameters on MNIST."""
    x = _conv5(inputs, 20, "conv1", initializer, activation)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = _conv5(x, 50, "conv2", initializer, activation)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    return _logits(_dense(x, 500, "dense1", initializer), num_classes, initializer)


@architecture(min_side=1)
def lstm(inputs, num_classes: int, units: int = 128, initializer: str = "keras"):
    """Two LSTMs that read the rows of an image as time steps, as Liu et al. 2020; 213,258 parameters on MNIST."""
    steps, *row = inputs.shape[1:]
    x = layers.Reshape((steps, math.prod(row)), name="rows")(inputs)
    for i, whole in ((1, True), (2, False)):
        begin = initializers.recurrent(initializer, units)
        x = layers.LSTM(units, return_sequences=whole, name=f"lstm{i}", **begin)(x)
    return _logits(x, num_classes, initializer)


def _dense(x, units, name, initializer):
    return layers.Dense(units, activation="relu", name=name, **initializers.dense(initializer, x.shape[-1]))(x)


def _conv5(x, filters, name, initializer, activation):
    begin = initializers.dense(initializer, 25 * x.shape[-1])
    return layers.Conv2D(filters, 5, activation=activation, name=name, **begin)(x)


def _logits(x, num_classes, initializer):
    return logits(x, num_classes, **initializers.dense(initializer, x.shape[-1]))
