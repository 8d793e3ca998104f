"""Create what a config describes: the compiled model, the method's callback, and the method's label."""

import contextlib
import inspect
from collections.abc import Callable

import keras

from tfsparse.backend import run_directory
from tfsparse.backend.registry import nearest
from tfsparse.experiments import sections
from tfsparse.experiments.method import CallbackMethod, DriverMethod, Method
from tfsparse.experiments.methods import METHODS
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import ConfigError, Section
from tfsparse.experiments.zoo import models as zoo_models
from tfsparse.optimizers import learning_rates, one_shot

_CYCLING = {
    "sgd": learning_rates.OneCycleSGD,
    "adam": learning_rates.OneCycleAdam,
    "adamw": learning_rates.OneCycleAdamW,
}


def compiled_model(config: RunConfig, data, weights=None, mask=None) -> keras.Model:
    """Build and compile the model of a config.

    Args:
        config: The config.
        data: The data set, from `zoo.data.load`.
        weights: Model whose weights are the initial ones, or None.
        mask: Model whose zeros stay zero, or None.

    Returns:
        The compiled model.

    Raises:
        ConfigError: If the optimizer does not take its options, or another model does not have the same shapes.
    """
    model = zoo_models.build(config.model.name, data.input_shape, data.num_classes, **config.model.options)
    with _error_names_start_model(config.start.weights):
        if weights is not None:
            model.set_weights(weights.get_weights())
    for method, section in _methods(config):
        model = method.convert(section, model)
    model.compile(
        optimizer=optimizer(config.optimizer, total_steps=config.epochs * data.steps_per_epoch),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # a file that is saved before the first step needs all slots
    with _error_names_start_model(config.start.mask):
        if mask is not None:
            one_shot.winning_ticket(model, model.get_weights(), mask)
    return model


@contextlib.contextmanager
def _error_names_start_model(path):
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"start: {path} does not fit: {error}") from error


def start_models(section: sections.StartConfig) -> list:
    """Load the models with the initial weights and with the mask; None for each that the section does not name."""
    return [
        run_directory.read_model(path, compiled=False) if path else None for path in (section.weights, section.mask)
    ]


def callbacks(config: RunConfig, validation=None, first_batch: Callable = lambda number=1: None) -> list:
    """Create the callback of the config's method.

    Args:
        config: The config.
        validation: Validation data for callbacks that measure the model before and after the final cut.
        first_batch: Function that returns the first batch of the first epoch, for callbacks that measure on it.

    Returns:
        A list with the callback; an empty list if the config has no method that is a callback.

    Raises:
        ConfigError: If the config has methods that cannot be combined.
        ValueError: If the method does not take its options.
    """
    _check_methods_combine(config)
    present = [(method, section) for method, section in _methods(config) if isinstance(method, CallbackMethod)]
    return [method.callback(section, validation, first_batch) for method, section in present[-1:]]


def driver_method(config: RunConfig) -> DriverMethod | None:
    """Return the config's method that calls `fit` itself, if there is one."""
    return next((method for method, _ in _methods(config) if isinstance(method, DriverMethod)), None)


def _methods(config) -> list[tuple[Method, Section]]:
    """The methods that a config asks for. Pruning by a schedule comes last: it decides the target."""
    present = [(method, method.section(config)) for method in METHODS.values()]
    return [(method, section) for method, section in present if section is not None]


def _check_methods_combine(config):
    present = sorted((method for method, _ in _methods(config)), key=lambda method: method.combines)
    overrides = [method.remove for method in present] + ["start.mask=null"] * bool(config.start.mask)
    if len(overrides) > 1 and not present[0].combines:
        first, second = (override.partition("=")[0] for override in overrides[:2])
        raise ConfigError(
            f"{first} and {second} both decide which weights are pruned: expected one of them; write {first}: null "
            f"(--set {overrides[0]}), or --set {overrides[1]}."
        )


def optimizer(section: sections.OptimizerConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """Create the optimizer of a training of `total_steps` batches.

    Returns:
        The optimizer.

    Raises:
        ConfigError: If there is no such optimizer, or it does not take its arguments.
    """
    options = section.options
    cls = arguments = _optimizer_class(section.name)
    rate = section.learning_rate
    if isinstance(rate, sections.OneCycleRateConfig):
        rate = learning_rates.OneCycleRate(rate.max, total_steps, rate.warmup, rate.initial_divisor, rate.final_divisor)
    if isinstance(rate, sections.StepRateConfig):
        rate = learning_rates.StepRate(rate.first, total_steps, rate.boundaries, rate.factor, rate.warmup)
    if options.get("use_ema"):
        raise ConfigError(
            "optimizer.use_ema: the averaged weights replace the others after the last validation, so their accuracy "
            "would not be known; remove use_ema."
        )
    if options.get("momentum") == "one_cycle":
        del options["momentum"]
        cls = _cycling_class(section.name)
    if rate is not None:
        options["learning_rate"] = rate
    valid = {*inspect.signature(arguments).parameters, *inspect.signature(cls).parameters} - {"kwargs"}
    for key in options:
        if key not in valid:
            raise ConfigError(
                f"optimizer.{key} is not an argument of {cls.__name__}.{nearest(key, sorted(valid))} "
                f"The arguments are {', '.join(sorted(valid))}."
            )
    try:
        cls(**options).apply([keras.ops.ones(1)], [keras.Variable([1.0])])  # Keras checks many values only here
        return cls(**options)
    except Exception as error:  # a wrong value can fail anywhere in Keras
        raise ConfigError(f"optimizer: {cls.__name__} refuses {options}: {error}") from error


def _optimizer_class(name):
    wrappers = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
    public = vars(keras.optimizers).items()
    classes = {key.lower(): c for key, c in public if isinstance(c, type) and key not in wrappers}
    for method in METHODS.values():
        classes |= method.optimizers
    if name.lower() not in classes:
        names = sorted(classes)
        raise ConfigError(f"Unknown optimizer {name!r}: expected one of {', '.join(names)}.{nearest(name, names)}")
    return classes[name.lower()]


def _cycling_class(name):
    if name.lower() not in _CYCLING:
        raise ConfigError(f"momentum: one_cycle works with {', '.join(_CYCLING)}, not with {name}; remove momentum.")
    return _CYCLING[name.lower()]


def target_sparsity(config: RunConfig) -> float | None:
    """Return the target sparsity of a config; None if its method decides how much is pruned."""
    return ([0.0] + [method.target_sparsity(section) for method, section in _methods(config)])[-1]


def label(config: RunConfig) -> str:
    """Return the label of the method in tables and legends. It names only the options that are not the default."""
    present = _methods(config)
    parts = ["winning ticket"] * bool(config.start.mask) + [method.label(section) for method, section in present]
    skipped = ("skip_first", "skip_last")
    parts += [key for key in skipped if any(getattr(section, key, False) for _, section in present)]
    return ", ".join(parts) or "dense"
