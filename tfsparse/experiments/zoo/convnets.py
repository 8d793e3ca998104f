"""Convolutional networks with BatchNormalization: ResNets, WideResNets, VGGs."""

from keras import layers, ops

from tfsparse.experiments.zoo.architecture import architecture, logits

_VGG = {
    "small": (32, 32, "pool", 64, 64, "pool", 128, 128, "pool"),
    16: (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool"),
    19: (64, 64, "pool", 128, 128, "pool", *[256] * 4, "pool", *[512] * 4, "pool", *[512] * 4, "pool"),
}


# ---------------------------------------------------------------------------------------------------------- ResNets


@architecture(min_side=4)
def resnet_20(inputs, num_classes: int):
    """He et al. 2015, CIFAR form with parameter-free shortcuts (option A); 269,722 trainable on CIFAR-10."""
    return _cifar_resnet(inputs, num_classes, blocks=3)


@architecture(min_side=4)
def resnet_56(inputs, num_classes: int):
    """He et al. 2015, CIFAR form with parameter-free shortcuts (option A); 853,018 trainable on CIFAR-10."""
    return _cifar_resnet(inputs, num_classes, blocks=9)


@architecture(min_side=8)
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
    return logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


def _residual_block(x, filters, stride, shortcut, name):
    same = x if stride == 1 and x.shape[-1] == filters else shortcut(x, filters, stride, f"{name}_shortcut")
    x = _conv_bn_relu(x, filters, f"{name}_conv1", strides=stride)
    x = _batch_norm(_conv(x, filters, f"{name}_conv2"), f"{name}_conv2_bn")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, same]))


def _padding_shortcut(x, filters, stride, name):
    """Option A of He et al.: every `stride`-th pixel, and zeros for the missing channels."""
    missing = filters - x.shape[-1]
    x = layers.AveragePooling2D(1, strides=stride, name=name)(x)  # windows of one pixel: subsampling
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])


def _projection_shortcut(x, filters, stride, name):
    return _batch_norm(_conv(x, filters, name, size=1, strides=stride), f"{name}_bn")


def wide_resnet(inputs, num_classes: int, depth: int, width: int, dropout: float = 0.0):
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
    return logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


wide_resnet.min_side = 4


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


@architecture(min_side=8)
def vgg_small(inputs, num_classes: int):
    """Six convolutions after Simonyan & Zisserman with BatchNormalization, ours; 288,746 trainable on CIFAR-10."""
    return _vgg(inputs, num_classes, _VGG["small"])


@architecture(min_side=32)
def vgg_16_bn(inputs, num_classes: int):
    """Simonyan & Zisserman's D with BatchNormalization and one dense layer; 14,724,042 trainable on CIFAR-10."""
    return _vgg(inputs, num_classes, _VGG[16])


@architecture(min_side=32)
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
    return logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


# ------------------------------------------------------------------------------------------------------------ pieces


def _conv(x, filters, name, size=3, strides=1):
    """Return a convolution without bias, since BatchNormalization with a bias follows."""
    conv = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return conv(x)


def _batch_norm(x, name):
    # The papers' momentum. Keras's default 0.99 is too slow for the few epochs of a small data set.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(_batch_norm(x, f"{name}_bn"))


def _conv_bn_relu(x, filters, name, strides=1):
    return _bn_relu(_conv(x, filters, name, strides=strides), name)
