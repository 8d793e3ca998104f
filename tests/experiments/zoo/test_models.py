"""The architectures are those of the papers, to the last parameter, and survive saving without custom code."""

import inspect
import math

import keras
import numpy as np
import pytest

from tfsparse.experiments.zoo import models

# Keras' own convert_to_numpy, whenever a Variable is read or saved under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CIFAR, MNIST = (32, 32, 3), (28, 28, 1)


def trainable(model):
    return sum(math.prod(w.shape) for w in model.trainable_weights)


def conv(size, channels, filters):
    return size * size * channels * filters + 2 * filters  # without bias, with BatchNormalization's gamma and beta


def lstm(inputs, units):
    return 4 * (inputs + units + 1) * units


def stages(widths, blocks, projection=False):
    """Two 3x3 convolutions per block; a stage that widens has a 1x1 projection besides, if asked."""
    count, channels = 0, widths[0]
    for width in widths:
        for _ in range(blocks):
            count += conv(3, channels, width) + conv(3, width, width)
            count += conv(1, channels, width) if projection and channels != width else 0
            channels = width
    return count


def cifar_resnet(blocks):
    return conv(3, 3, 16) + stages((16, 32, 64), blocks) + 650


def resnet_18():
    return conv(3, 3, 64) + stages((64, 128, 256, 512), 2, projection=True) + 5130


def vgg(plan):
    return sum(conv(3, *pair) for pair in zip([3, *plan], plan, strict=False)) + plan[-1] * 10 + 10


def wide_resnet(blocks, k):
    count, channels = 3 * 9 * 16, 16
    for width in (16 * k, 32 * k, 64 * k):
        for _ in range(blocks):
            # Pre-activation: each BatchNormalization has the channels that come in.
            count += 9 * channels * width + 2 * channels + 9 * width * width + 2 * width
            count += channels * width if channels != width else 0
            channels = width
    return count + 2 * channels + 10 * channels + 10


D = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
E = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8


@pytest.mark.parametrize(
    ("name", "shape", "arithmetic", "published"),
    [
        ("mlp", (8, 8, 1), 65 * 256 + 257 * 128 + 129 * 10, 50_826),
        ("lenet_300_100", MNIST, 785 * 300 + 301 * 100 + 101 * 10, 266_610),
        ("lenet_5", MNIST, 26 * 20 + 501 * 50 + 801 * 500 + 501 * 10, 431_080),
        ("lstm", MNIST, lstm(28, 128) + lstm(128, 128) + 129 * 10, 213_258),
        ("resnet_20", CIFAR, cifar_resnet(3), 269_722),
        ("resnet_56", CIFAR, cifar_resnet(9), 853_018),
        ("resnet_18", CIFAR, resnet_18(), 11_173_962),
        ("vgg_small", CIFAR, vgg([32, 32, 64, 64, 128, 128]), 288_746),
        ("vgg_16_bn", CIFAR, vgg(D), 14_724_042),
        ("vgg_19_bn", CIFAR, vgg(E), 20_035_018),
        ("wrn_22_2", CIFAR, wide_resnet(3, 2), 1_079_642),
        ("wrn_16_8", CIFAR, wide_resnet(2, 8), 10_961_370),
        ("WRN_28_10", CIFAR, wide_resnet(4, 10), 36_479_194),
    ],
)
def test_trainable_parameters(name, shape, arithmetic, published):
    model = models.build(name, shape, 10)
    assert trainable(model) == arithmetic == published
    assert (model.name, model.output_shape) == (name.lower(), (None, 10))


@pytest.mark.parametrize("name", ["mlp", "lenet_5", "lstm", "resnet_20", "resnet_18", "wrn_10_1", "vgg_16_bn"])
def test_the_output_is_logits_and_the_file_needs_no_custom_code(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = models.build(name, CIFAR, 7)
    images = np.random.default_rng(0).normal(size=(2, *CIFAR)).astype("float32")
    logits = keras.ops.convert_to_numpy(model(images))
    assert logits.shape == (2, 7)
    assert not np.allclose(logits.sum(-1), 1) and logits.min() < 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects={}, safe_mode=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(images)), logits)


def test_layer_names_do_not_depend_on_what_was_built_before():
    first, second = (models.build("resnet_20", CIFAR, 10) for _ in range(2))
    assert [w.path for w in first.weights] == [w.path for w in second.weights]
    assert first.get_layer("stage2_block1_conv1").kernel.shape == (3, 3, 16, 32)


def test_options_reach_the_architecture():
    assert trainable(models.build("mlp", (5,), 2, widths=(3,))) == 6 * 3 + 4 * 2
    dropouts = [x for x in models.build("wrn_10_1", CIFAR, 10, dropout=0.3).layers if "dropout" in x.name]
    assert [x.rate for x in dropouts] == [0.3] * 3


def test_keras_applications_by_any_case_without_softmax_and_scaling_of_raw_pixels():
    model = models.build("mobilenetv3small", CIFAR, 4, minimalistic=True)
    assert model.output_shape == (None, 4)
    assert model.layers[-1].activation is keras.activations.linear
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)


def test_every_keras_application_can_be_asked_for_logits():
    for function in models._applications().values():
        assert {"weights", "classes", "classifier_activation", "input_shape"} <= set(
            inspect.signature(function).parameters
        ), function.__name__


def test_names_list_the_registry_the_wide_family_and_keras():
    assert {"resnet_56", "vgg_19_bn", "wrn_28_10", "MobileNetV2"} <= set(models.names())
    assert len(models.names()) == len({name.lower() for name in models.names()})


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("resnet20", CIFAR, 10), {}, r"Unknown model 'resnet20'.*Write build\(\"resnet_20\", \(32, 32, 3\)"),
        (("mobilenet_v2", CIFAR, 10), {}, "MobileNetV2"),
        (("wrn_20_2", CIFAR, 10), {}, r"6n \+ 4.*write \"wrn_22_2\""),
        (("vgg_16_bn", MNIST, 10), {}, r"at least 32x32 pixels, not input_shape=\(28, 28, 1\).*mlp"),
        (("lenet_5", (28, 28), 10), {}, "images.*not input_shape"),
        (("mlp", (None, 3), 10), {}, "positive whole numbers"),
        (("mlp", (8,), 10), {"width": 3}, r"option\(s\) width; it takes widths, initializer"),
        (("resnet_20", MNIST, 10), {"widths": 3}, "it takes none"),
        (("lstm", (28, 28), 10), {}, "images.*not input_shape"),
        (("lstm", MNIST, 10), {"initializer": "pytorch"}, "initializer='pytorch' is unknown; write initi"),
        (("wrn_16_8", CIFAR, 10), {"depth": 28}, r"option\(s\) depth; it takes dropout"),
        (("MobileNetV2", CIFAR, 10), {"width": 3}, r"option\(s\) width.*alpha"),
        (("mlp", (8,), 10), {"widths": 16}, "cannot be built with widths=16: expected a list of whole numbers"),
        (("mlp", (8,), 10), {"widths": None}, "cannot be built with widths=None: expected a list of whole numbers"),
        (("lstm", MNIST, 10), {"units": "many"}, "cannot be built with units='many'"),
        (("wrn_16_8", CIFAR, 10), {"dropout": None, "initializer": 1}, r"option\(s\) initializer"),
        (("wrn_10_1", CIFAR, 10), {"dropout": "half"}, "cannot be built with dropout='half'"),
        (("MobileNetV2", CIFAR, 10), {"alpha": None}, "cannot be built with alpha=None"),
        (("MobileNetV2", CIFAR, 10), {"include_top": False}, r"gives outputs of shape.*expected logits.*\(None, 10\)"),
    ],
)
def test_wrong_arguments_are_refused_with_the_line_to_write(arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.build(*arguments, **options)
