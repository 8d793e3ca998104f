"""Architectures of the pruning papers and of keras.applications, by name."""

import contextlib
import difflib
import inspect
import re
import textwrap

import keras

from tfsparse.experiments.zoo import convnets, small  # noqa: F401  they register their architectures
from tfsparse.experiments.zoo.architecture import ARCHITECTURES

_WIDE_RESNET = re.compile(r"wrn_(\d+)_(\d+)")


def build(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Build a model that ends in logits of shape `(batch, num_classes)`. It is not compiled.

    Args:
        name: One of `names()`, or any `wrn_D_K` with D = 6n + 4. Upper or lower case.
        input_shape: `(height, width, channels)`, without the batch. `mlp` and `lenet_300_100` take any rank.
        num_classes: Number of classes.
        **options: Options of the architecture: `widths` of `mlp`, `units` of `lstm`, `initializer` ("keras" or "torch")
            of these and of LeNets, `activation` of the convolutions of `lenet_5`, `dropout` of `wrn_D_K`, `alpha` of
            MobileNetV2 and others.

    Returns:
        The model.

    Raises:
        ValueError: If the name or an option is unknown, the model cannot be built with the options, or the architecture
            cannot take the shape.

    Examples:
        >>> build("lenet_300_100", (28, 28, 1), 10).count_params()
        266610
    """
    input_shape, key = tuple(input_shape), name.lower()
    wide, application = _WIDE_RESNET.fullmatch(key), _applications().get(key)
    if not (wide or application or key in ARCHITECTURES):
        raise ValueError(_unknown(name, input_shape, num_classes))
    function = application or (convnets.wide_resnet if wide else ARCHITECTURES[key])
    _check_options(name, function, options)
    if not application:
        _check_shape(name, function, input_shape)
    size = {"depth": int(wide[1]), "width": int(wide[2])} if wide else {}
    with _error_names_options(name, options):
        make = _from_applications if application else _from_architecture
        model = make(function, key, input_shape, num_classes, options | size)
    _check_outputs(name, options, model, num_classes)
    return model


def _from_architecture(function, name, input_shape, num_classes, options):
    inputs = keras.Input(input_shape, name="image")
    return keras.Model(inputs, function(inputs, num_classes, **options), name=name)


def names() -> list[str]:
    """Return the names that `build` knows. Of the family `wrn_D_K` only the usual members are listed.

    Examples:
        >>> "resnet_20" in names()
        True
    """
    wide = ["wrn_16_8", "wrn_22_2", "wrn_28_10", "wrn_40_2"]
    return sorted([*ARCHITECTURES, *wide]) + sorted(f.__name__ for f in _applications().values())


# ------------------------------------------------------------------------------------------------- keras.applications


def _applications():
    functions = vars(keras.applications).values()
    return {f.__name__.lower(): f for f in functions if inspect.isfunction(f)}


def _from_applications(function, name, input_shape, num_classes, options):
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


@contextlib.contextmanager
def _error_names_options(name, options):
    """Say which options cannot be built: a wrong value can fail anywhere in Keras."""
    try:
        yield
    except Exception as error:
        if not options:
            raise
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise ValueError(f"build({name!r}) cannot be built with {_written(options)}: {reason}") from error


def _check_outputs(name, options, model, num_classes):
    if model.output_shape != (None, num_classes):
        raise ValueError(
            f"build({name!r}) with {_written(options)} gives outputs of shape {model.output_shape}: expected logits of "
            f"shape {(None, num_classes)}; remove the options that change the top."
        )


def _written(options):
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


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
        f"Unknown model {name!r}; the nearest names are {', '.join(near)} "
        "(all: tfsparse.experiments.zoo.models.names()). "
        f'Write build("{near[0]}", {input_shape}, {num_classes}).'
    )
