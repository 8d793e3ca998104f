"""What a config says, made: the model with its optimizer, the callback that prunes, the method's name."""

import contextlib
import inspect
import os

import keras

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.backend.registry import nearest
from tfsparse.experiments import sections
from tfsparse.experiments.config import ConfigError
from tfsparse.experiments.sections import RunConfig
from tfsparse.experiments.zoo import models as zoo_models
from tfsparse.optimizers import learning_rates

_COMPRESSION = inspect.signature(tfsparse.GSM).parameters["compression"].default


def compiled(config: RunConfig, data, weights=None, mask=None) -> keras.Model:
    """Return the model, compiled; with the weights of one model and the zeros of another, where training starts there.

    Raises ConfigError for options that the optimizer does not take and for models of other shapes.
    """
    model = zoo_models.build(config.model.name, data.input_shape, data.num_classes, **config.model.options)
    with _fitting(config.start.weights):
        if weights is not None:
            model.set_weights(weights.get_weights())
    if config.dst:
        model = tfsparse.dst(model, **config.dst.model_dump(exclude={"sparsity"}))
    model.compile(
        optimizer=optimizer(config.optimizer, total_steps=config.epochs * data.steps_per_epoch),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # a file from before the first step has its slots too
    with _fitting(config.start.mask):
        if mask is not None:
            tfsparse.winning_ticket(model, model.get_weights(), mask)
    return model


@contextlib.contextmanager
def _fitting(path):
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"start: {path} does not fit: {error}") from error


def start(section: sections.StartConfig) -> list:
    """Return the two models that training starts from, or None; early, so that a wrong path costs nothing."""
    return [run_directory.read_model(path, compiled=False) if path else None for path in (section.weights, section.mask)]


def pruning(config: RunConfig, data=None, batch=None) -> list:
    """Return the callback that prunes, if the config asks for it, as a list; a cut is measured on `data.validation`,
    curvature on `batch`, which must be the same when the training is resumed.

    Raises ConfigError and other ValueErrors.
    """
    _check_alone(config)
    validation = data and data.validation
    if config.dst:
        return [tfsparse.DST(config.dst.sparsity, data=validation)]
    if config.pll:
        return [_pll(config.pll, batch)]
    if config.prune is None:
        return [tfsparse.PruneGSM(data=validation)] if compression(config) > 1 else []
    return [_prune(config.prune)]


def _check_alone(config):
    rivals = {
        "dst=null": config.dst,
        "pll=null": config.pll,
        "activation_density=null": config.activation_density,
        "prune=null": config.prune,
        "optimizer.compression=1": compression(config) > 1,
        "start.mask=null": config.start.mask,
    }
    there = [without for without, is_there in rivals.items() if is_there]
    if len(there) > 1 and (config.dst or config.pll or config.activation_density):
        first, second = (without.partition("=")[0] for without in there[:2])
        raise ConfigError(
            f"{first} and {second} both say what is left of the network: expected one of them; write {first}: null "
            f"(--set {there[0]}), or --set {there[1]}."
        )


def activation_density(config: RunConfig, model: keras.Model, path: str | os.PathLike) -> tfsparse.ActivationDensity:
    """Return what trains the model while it shrinks, and keeps that in the directory `path`. Raises ValueErrors."""
    options = config.activation_density.model_dump()
    driver = tfsparse.ActivationDensity(model, **options, directory=path, seed=config.seed)
    driver.plan.check_epochs(0, config.epochs)
    return driver


def _pll(section, batch):
    options = section.model_dump(exclude={"start"})
    start = section.start if section.start == "peak" else tfsparse.methods.pll.rules.FixedStart(section.start)
    return tfsparse.PLL(batch, start=start, **options)


def _prune(section):
    try:
        schedule = tfsparse.schedules.get(section.schedule.name, **section.schedule.options)
        schedule(0.5)
        pruner = tfsparse.pruners.get(section.pruner.name, **section.pruner.options)
    except TypeError as error:
        raise ConfigError(
            f"prune: {section.schedule}, {section.pruner} has an option of the wrong type: {error}. "
            "Write e.g. schedule: {name: one_cycle, alpha: 14}"
        ) from error
    return tfsparse.Prune(
        schedule, section.sparsity, pruner, skip_first=section.skip_first, skip_last=section.skip_last
    )


def optimizer(section: sections.OptimizerConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a training of so many steps. Raises ConfigError."""
    options = section.options
    cls = arguments = _optimizer_class(section.name)
    rate = section.learning_rate
    if isinstance(rate, sections.OneCycleRateConfig):
        rate = learning_rates.OneCycleRate(rate.max, total_steps, rate.warmup, rate.initial_divisor, rate.final_divisor)
    if isinstance(rate, sections.StepRateConfig):
        rate = learning_rates.StepRate(rate.first, total_steps, rate.at, rate.factor, rate.warmup)
    if options.get("use_ema"):
        raise ConfigError("optimizer.use_ema: its averages come after the last validation, unmeasured; leave it away.")
    if options.get("momentum") == "one_cycle":
        del options["momentum"]
        cls = _cycling(section.name)
    if rate is not None:
        options["learning_rate"] = rate
    known = {*inspect.signature(arguments).parameters, *inspect.signature(cls).parameters} - {"kwargs"}
    for key in options:
        if key not in known:
            raise ConfigError(
                f"optimizer.{key} is not an argument of {cls.__name__}.{nearest(key, sorted(known))} "
                f"The arguments are {', '.join(sorted(known))}."
            )
    try:
        cls(**options).apply([keras.ops.ones(1)], [keras.Variable([1.0])])  # Keras looks at many values only here
        return cls(**options)
    except Exception as error:  # whatever a wrong value happens to run into
        raise ConfigError(f"optimizer: {cls.__name__} refuses {options}: {error}") from error


def _optimizer_class(name):
    wrappers = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
    public = vars(keras.optimizers).items()
    classes = {key.lower(): c for key, c in public if isinstance(c, type) and key not in wrappers}
    classes["gsm"] = tfsparse.GSM
    if name.lower() not in classes:
        names = sorted(classes)
        raise ConfigError(f"Unknown optimizer {name!r}: expected one of {', '.join(names)}.{nearest(name, names)}")
    return classes[name.lower()]


def _cycling(name):
    classes = {"sgd": learning_rates.OneCycleSGD, "adam": learning_rates.OneCycleAdam, "adamw": learning_rates.OneCycleAdamW}
    if name.lower() not in classes:
        raise ConfigError(f"momentum: one_cycle works with {', '.join(classes)}, not with {name}; leave momentum away.")
    return classes[name.lower()]


def compression(config: RunConfig) -> float:
    """Return GSM's compression; 1 for other optimizers."""
    return config.optimizer.options.get("compression", _COMPRESSION) if config.optimizer.name.lower() == "gsm" else 1.0


def asked_sparsity(config: RunConfig) -> float | None:
    """Return the sparsity that the config asks for; None where the alpha of DST or densities leave it open."""
    if config.activation_density:
        return None
    if config.dst or config.pll:
        return (config.dst or config.pll).sparsity
    return config.prune.sparsity if config.prune else 1 - 1 / compression(config)


def method(config: RunConfig) -> str:
    """Return the method in one line, as tables and legends call it: only options that are not the default."""
    parts = ["winning ticket"] if config.start.mask else []
    if compression(config) > 1:
        parts.append("gsm")  # its compression is the sparsity that is asked
    if config.prune:
        parts += [_named(tfsparse.schedules, config.prune.schedule), _named(tfsparse.pruners, config.prune.pruner)]
    if config.dst:
        parts.append(_dst(config.dst))
    if config.pll:
        parts.append(_changed("pll", config.pll))
    if config.activation_density:
        parts.append(_changed("activation density", config.activation_density))
    section = config.prune or config.dst or config.pll
    return ", ".join(parts + [key for key in ("skip_first", "skip_last") if getattr(section, key, False)]) or "dense"


def _named(registry, part):
    plain, chosen = (registry.get(part.name, **options).get_config() for options in ({}, part.options))
    changed = ", ".join(f"{key}={value}" for key, value in chosen.items() if value != plain[key])
    return f"{part.name} ({changed})" if changed else part.name


def _changed(name, section):
    fields = type(section).model_fields
    others = {key: value for key, value in section if key not in ("sparsity", "skip_first", "skip_last")}
    changed = {key: value for key, value in others.items() if value != fields[key].default}
    return f"{name} ({', '.join(f'{key}={value}' for key, value in changed.items())})" if changed else name


def _dst(section):
    """Without a target alpha is how much is asked, so there it is always named."""
    plain, has_target = sections.DSTConfig(), section.sparsity is not None
    options = {
        "target": has_target,
        f"alpha={section.alpha:g}": not has_target or section.alpha != plain.alpha,
        f"threshold={section.threshold}": section.threshold != plain.threshold,
    }
    return f"dst ({', '.join(option for option, is_named in options.items() if is_named)})"
