"""Architectures of the pruning papers, by name: built, uncompiled, ending in logits."""

import difflib
import inspect
import re
from collections.abc import Callable

import keras
from keras import layers, ops

_ARCHITECTURES: dict[str, Callable] = {}
_WIDE_RESNET = re.compile(r"wrn_(\d+)_(\d+)")
_VGG = {
    16: (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool"),
    19: (64, 64, "pool", 128, 128, "pool", *[256] * 4, "pool", *[512] * 4, "pool", *[512] * 4, "pool"),
}


def build(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Return the architecture `name`, built but not compiled; its output is logits, shape `(batch, num_classes)`.

    name: one of `names()`, any `wrn_D_K` with D = 6n + 4, in any case of letters.
    input_shape: `(height, width, channels)` without the batch; `mlp` and `lenet_300_100` take any rank.
    options: what else it takes, e.g. `widths` of `mlp`, `dropout` of `wrn_D_K`, `alpha` of MobileNetV2.

    Raises ValueError for an unknown name or option, and for a shape that the architecture cannot take.

    >>> build("lenet_300_100", (28, 28, 1), 10).count_params()
    266610
    """
    input_shape = tuple(input_shape)
    key = name.lower()
    wide = _WIDE_RESNET.fullmatch(key)
    if key in (applications := _applications()):
        return _from_applications(applications[key], input_shape, num_classes, options)
    if not wide and key not in _ARCHITECTURES:
        raise ValueError(_unknown(name, input_shape, num_classes))
    architecture = _wide_resnet if wide else _ARCHITECTURES[key]
    _check_options(name, architecture, options)
    if wide:
        options |= {"depth": int(wide[1]), "width": int(wide[2])}
    _check_shape(name, architecture, input_shape)
    inputs = keras.Input(input_shape, name="image")
    return keras.Model(inputs, architecture(inputs, num_classes, **options), name=key)


def names() -> list[str]:
    """Return the names that `build` knows; of the family `wrn_D_K` (D = 6n + 4) only the usual members.

    >>> "resnet_20" in names()
    True
    """
    wide = ["wrn_16_8", "wrn_22_2", "wrn_28_10", "wrn_40_2"]
    return sorted([*_ARCHITECTURES, *wide]) + sorted(f.__name__ for f in _applications().values())


def _architecture(min_side: int = 0):
    """Register a function `(inputs, num_classes, **options) -> logits`; `min_side` > 0 also demands an image."""

    def register(function):
        function.min_side = min_side
        _ARCHITECTURES[function.__name__] = function
        return function

    return register


# ----------------------------------------------------------------------------------------------- fully connected, LeNet


@_architecture()
def mlp(inputs, num_classes: int, widths: tuple[int, ...] = (256, 128)):
    """Flatten, then one dense ReLU layer per width."""
    x = layers.Flatten(name="flatten")(inputs)
    for i, width in enumerate(widths, start=1):
        x = layers.Dense(width, activation="relu", name=f"dense{i}")(x)
    return _logits(x, num_classes)


@_architecture()
def lenet_300_100(inputs, num_classes: int):
    """LeCun et al. 1998 without convolutions: 300 and 100 ReLU units; 266,610 parameters on MNIST."""
    return mlp(inputs, num_classes, widths=(300, 100))


@_architecture(min_side=16)
def lenet_5(inputs, num_classes: int):
    """The LeNet-5 of Caffe's MNIST example, whose one ReLU follows the 500 units; 431,080 parameters on MNIST."""
    x = layers.Conv2D(20, 5, name="conv1")(inputs)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(50, 5, name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(500, activation="relu", name="dense1")(x)
    return _logits(x, num_classes)


# ---------------------------------------------------------------------------------------------------------- ResNets


@_architecture(min_side=4)
def resnet_20(inputs, num_classes: int):
    """He et al. 2015, CIFAR form with parameter-free shortcuts (option A); 269,722 trainable on CIFAR-10."""
    return _cifar_resnet(inputs, num_classes, blocks=3)


@_architecture(min_side=4)
def resnet_56(inputs, num_classes: int):
    """He et al. 2015, CIFAR form with parameter-free shortcuts (option A); 853,018 trainable on CIFAR-10."""
    return _cifar_resnet(inputs, num_classes, blocks=9)


@_architecture(min_side=8)
def resnet_18(inputs, num_classes: int):
    """ResNet-18 with a 3x3 stem for small images and projection shortcuts; 11,173,962 trainable on CIFAR-10."""
    return _resnet(inputs, num_classes, (64, 128, 256, 512), blocks=2, shortcut=_projection_shortcut)


def _cifar_resnet(inputs, num_classes, blocks):
    return _resnet(inputs, num_classes, (16, 32, 64), blocks, _padding_shortcut)


def _resnet(inputs, num_classes, widths, blocks, shortcut):
    x = _conv_bn_relu(inputs, widths[0], "stem")
    for stage, filters in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _residual_block(x, filters, stride, shortcut, f"stage{stage}_block{block}")
    return _logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


def _residual_block(x, filters, stride, shortcut, name):
    same = x if stride == 1 and x.shape[-1] == filters else shortcut(x, filters, stride, f"{name}_shortcut")
    x = _conv_bn_relu(x, filters, f"{name}_conv1", strides=stride)
    x = _batch_norm(_conv(x, filters, f"{name}_conv2"), f"{name}_conv2_bn")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, same]))


def _padding_shortcut(x, filters, stride, name):
    """Option A of He et al.: every `stride`-th pixel, the missing channels zero."""
    missing = filters - x.shape[-1]
    x = layers.AveragePooling2D(1, strides=stride, name=name)(x)  # a window of one pixel: subsampling in a stock layer
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])


def _projection_shortcut(x, filters, stride, name):
    return _batch_norm(_conv(x, filters, name, size=1, strides=stride), f"{name}_bn")


def _wide_resnet(inputs, num_classes: int, depth: int, width: int, dropout: float = 0.0):
    """Zagoruyko & Komodakis 2016: pre-activation, 3 stages; WRN-28-10 has 36,479,194 trainable on CIFAR-10."""
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1 or width < 1:
        near = 6 * max(1, round((depth - 4) / 6)) + 4
        raise ValueError(
            f"wrn_{depth}_{width}: the depth must be 6n + 4 (10, 16, 22, 28, ...) and the width at least 1; "
            f'write "wrn_{near}_{max(1, width)}".'
        )
    x = _conv(inputs, 16, "stem")
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width), start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _wide_block(x, filters, stride, dropout, f"stage{stage}_block{block}")
    x = _bn_relu(x, "head")
    return _logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


_wide_resnet.min_side = 4


def _wide_block(x, filters, stride, dropout, name):
    active = _bn_relu(x, f"{name}_conv1")
    changes = stride > 1 or x.shape[-1] != filters
    same = _conv(active, filters, f"{name}_shortcut", size=1, strides=stride) if changes else x
    y = _conv(active, filters, f"{name}_conv1", strides=stride)
    y = _bn_relu(y, f"{name}_conv2")
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_add")([_conv(y, filters, f"{name}_conv2"), same])


# -------------------------------------------------------------------------------------------------------------- VGG


@_architecture(min_side=32)
def vgg_16_bn(inputs, num_classes: int):
    """Simonyan & Zisserman's D with BatchNormalization and one dense layer; 14,724,042 trainable on CIFAR-10."""
    return _vgg(inputs, num_classes, _VGG[16])


@_architecture(min_side=32)
def vgg_19_bn(inputs, num_classes: int):
    """Simonyan & Zisserman's E with BatchNormalization and one dense layer; 20,035,018 trainable on CIFAR-10."""
    return _vgg(inputs, num_classes, _VGG[19])


def _vgg(x, num_classes, plan):
    stage, conv = 1, 0
    for step in plan:
        if step == "pool":
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
            stage, conv = stage + 1, 0
        else:
            conv += 1
            x = _conv_bn_relu(x, step, f"stage{stage}_conv{conv}")
    return _logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


# ------------------------------------------------------------------------------------------------------------ pieces


def _conv(x, filters, name, size=3, strides=1):
    """A convolution without bias: BatchNormalization follows every one of them and has its own."""
    conv = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return conv(x)


def _batch_norm(x, name):
    # The papers' moving average; Keras' own 0.99 still lags behind after the few epochs of a small data set.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(_batch_norm(x, f"{name}_bn"))


def _conv_bn_relu(x, filters, name, strides=1):
    return _bn_relu(_conv(x, filters, name, strides=strides), name)


def _logits(x, num_classes):
    return layers.Dense(num_classes, name="logits")(x)


# ------------------------------------------------------------------------------------------------- keras.applications


def _applications():
    functions = vars(keras.applications).values()
    return {f.__name__.lower(): f for f in functions if inspect.isfunction(f)}


def _from_applications(function, input_shape, num_classes, options):
    _check_options(function.__name__, function, options)
    settings = {"weights": None, "classes": num_classes, "classifier_activation": None, "input_shape": input_shape}
    if "include_preprocessing" in inspect.signature(function).parameters:
        settings["include_preprocessing"] = False  # it expects pixels of 0..255; the zoo's data are standardised
    return function(**settings | options)


# ------------------------------------------------------------------------------------------------------------ errors


def _check_options(name, function, options):
    fixed = ("inputs", "num_classes", "depth", "width")  # the first two are `build`'s, the others in the name wrn_D_K
    known = [p for p in inspect.signature(function).parameters if p not in fixed]
    unknown = sorted(set(options) - set(known))
    if unknown:
        takes = f"it takes {', '.join(known)}" if known else f"it takes none: write build({name!r}, shape, classes)"
        raise ValueError(f"build({name!r}) was passed the option(s) {', '.join(unknown)}; {takes}.")


def _check_shape(name, function, shape):
    if not shape or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"input_shape={shape} must be positive whole numbers without the batch, e.g. (32, 32, 3).")
    side = function.min_side
    if side and (len(shape) != 3 or min(shape[:2]) < side):
        raise ValueError(
            f"{name} takes images (height, width, channels) of at least {side}x{side} pixels, not input_shape={shape}; "
            f'for this shape write e.g. build("mlp", {shape}, num_classes).'
        )


def _unknown(name, input_shape, num_classes):
    canonical = {known.lower(): known for known in names()}
    near = [canonical[key] for key in difflib.get_close_matches(name.lower(), canonical, n=3, cutoff=0.4)]
    near = near or ["mlp", "lenet_5", "resnet_20"]
    return (
        f"Unknown model {name!r}; the nearest names are {', '.join(near)} (all: tfsparse.zoo.models.names()). "
        f'Write build("{near[0]}", {input_shape}, {num_classes}).'
    )
