"""Architectures of the pruning papers and of keras.applications, by name."""

import difflib
import inspect
import re

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
        ValueError: If the name or an option is unknown, or the architecture cannot take the shape.

    Examples:
        >>> build("lenet_300_100", (28, 28, 1), 10).count_params()
        266610
    """
    input_shape = tuple(input_shape)
    key = name.lower()
    wide = _WIDE_RESNET.fullmatch(key)
    if key in (applications := _applications()):
        return _from_applications(applications[key], input_shape, num_classes, options)
    if not wide and key not in ARCHITECTURES:
        raise ValueError(_unknown(name, input_shape, num_classes))
    architecture = convnets.wide_resnet if wide else ARCHITECTURES[key]
    _check_options(name, architecture, options)
    if wide:
        options |= {"depth": int(wide[1]), "width": int(wide[2])}
    _check_shape(name, architecture, input_shape)
    inputs = keras.Input(input_shape, name="image")
    return keras.Model(inputs, architecture(inputs, num_classes, **options), name=key)


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
        f"Unknown model {name!r}; the nearest names are {', '.join(near)} "
        "(all: tfsparse.experiments.zoo.models.names()). "
        f'Write build("{near[0]}", {input_shape}, {num_classes}).'
    )
