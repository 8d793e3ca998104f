"""Train what a config says into a run directory that is never half-written and can be resumed bit for bit.

    run.json       config, versions, metrics of every epoch, report; its status becomes "finished" last of all
    model.keras    the model after the last whole epoch, with optimizer state and masks
    savedmodel/    the sparse model for serving
    tensorboard/   curves
    training.png   sparsity and accuracy over training
"""

import contextlib
import importlib.metadata
import inspect
import os
import pathlib
import platform
import time
from collections.abc import Sequence

import keras

import tfsparse
from tfsparse import config as configs
from tfsparse import plots, runs
from tfsparse.config import ConfigError, RunConfig
from tfsparse.registry import nearest
from tfsparse.zoo import data as zoo_data
from tfsparse.zoo import models as zoo_models
from tfsparse.zoo import one_cycle


def train(
    config: RunConfig,
    out_dir: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Train `config` and return the run, which is also written to `out_dir/run.json`.

    After every epoch `model.keras` is replaced in one step, so whatever interrupts the run leaves a file that loads.
    resume: go on behind the last whole epoch of the same config, to the weights and metrics of an uninterrupted run,
    bit for bit. overwrite: replace an earlier run. callbacks: come after the run's own.

    Seeds, and on TensorFlow deterministic kernels unless `deterministic: false`, are set for the whole process.

    Raises RunError for a directory that holds something else, ConfigError and other ValueErrors for a config that
    cannot be trained; in all these cases before anything is written.

    >>> run = train(config.load("configs/digits_quickstart.yaml"), "runs/digits")
    >>> run["summary"]["sparsity"]
    0.9
    """
    directory = pathlib.Path(out_dir)
    run = runs.resumed(directory, config) if resume else runs.fresh(directory, config, overwrite)
    if run["status"] == "finished":
        return run
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    with _dtype_policy(config.precision):
        keras.utils.set_random_seed(config.seed)
        model = _fit(config, directory, run, callbacks)
        return _finish(config, directory, run, model)


class _Keeper(keras.callbacks.Callback):
    """Opens the run directory when everything else has been checked, and keeps it true after every epoch."""

    def __init__(self, directory, run):
        super().__init__()
        self._directory, self._run = directory, run

    def on_epoch_begin(self, epoch, logs=None):  # on_train_begin comes before Prune knows whether it can run
        if not self._run["checkpoints"]:
            self._run["environment"] = _environment()
            runs.begin(self._directory, self._run)
            runs.write_model(self._directory, self._run, self.model)
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._run["epochs"].append({"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}})
        self._run["seconds"].append(round(time.perf_counter() - self._begun, 3))
        runs.write_model(self._directory, self._run, self.model)


class _Curves(keras.callbacks.TensorBoard):
    """TensorBoard that makes its directory in the first epoch: before that Prune may still refuse the run."""

    def on_train_begin(self, logs=None):
        self._is_open = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._is_open:
            super().on_train_begin()
            self._is_open = True
        super().on_epoch_begin(epoch, logs)


def _fit(config, directory, run, callbacks):
    done = len(run["epochs"])
    if done == config.epochs:
        return runs.load_model(directory, run)
    pruning = [_pruning(config.prune)] if config.prune else []  # before data: a typo should not wait for a download
    data = zoo_data.load(
        config.data.name,
        batch_size=config.data.batch_size,
        seed=config.seed,
        data_dir=config.data.dir,
        augment=config.data.augment,
        image_size=config.data.image_size,
        epochs=config.epochs,
        first_epoch=done,
    )
    _check_steps(config, data)
    model = runs.load_model(directory, run) if run["checkpoints"] else _compiled(config, data)
    logs = str(directory / "tensorboard")
    watching = [_Curves(logs, write_graph=False)]
    watching += [tfsparse.SparsityLogger(logs)] if config.prune else []
    with _interruptible():
        model.fit(
            data.train,
            epochs=config.epochs,
            initial_epoch=done,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation,
            callbacks=[*pruning, _Keeper(directory, run), *watching, *callbacks],
            shuffle=False,  # the data come shuffled
            verbose=0,
        )
    return model


@contextlib.contextmanager
def _interruptible():
    """Let Ctrl-C be Ctrl-C: on JAX Keras then tidies up with arrays that the broken-off step has taken, and fails."""
    try:
        yield
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _check_steps(config, data):
    steps, at_once = data.steps_per_epoch, config.steps_per_execution
    if steps % at_once:  # Keras would run on into the next epoch's batches
        fit = max(n for n in range(1, at_once) if steps % n == 0)
        raise ConfigError(
            f"steps_per_execution={at_once} does not divide the {steps} steps of an epoch; write {fit}"
        )


def _compiled(config, data):
    model = zoo_models.build(config.model.name, data.input_shape, data.num_classes, **config.model.options)
    model.compile(
        optimizer=_optimizer(config.optimizer, total_steps=config.epochs * data.steps_per_epoch),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _pruning(section):
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


def _optimizer(section, total_steps):
    options = section.options
    cls = arguments = _optimizer_class(section.name)
    rate = section.learning_rate
    if isinstance(rate, configs.OneCycleRateConfig):
        rate = one_cycle.OneCycleRate(rate.max, total_steps, rate.warmup, rate.initial_divisor, rate.final_divisor)
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
    if name.lower() not in classes:
        names = sorted(classes)
        raise ConfigError(f"Unknown optimizer {name!r}: expected one of {', '.join(names)}.{nearest(name, names)}")
    return classes[name.lower()]


def _cycling(name):
    classes = {"sgd": one_cycle.OneCycleSGD, "adam": one_cycle.OneCycleAdam, "adamw": one_cycle.OneCycleAdamW}
    if name.lower() not in classes:
        raise ConfigError(f"momentum: one_cycle works with {', '.join(classes)}, not with {name}; leave momentum away.")
    return classes[name.lower()]


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# ------------------------------------------------------------------------------------------------------------ the end


def _finish(config, directory, run, model):
    report = tfsparse.report(model).as_dict()
    run |= {"summary": _summary(config, run, report), "report": report}
    runs.tidy(directory)
    runs.write(directory / "savedmodel", lambda path: tfsparse.export(model, path))
    plots.save(plots.training(run), directory / "training.png")
    run["status"] = "finished"
    runs.write_run(directory, run)
    return run


def _summary(config, run, report):
    """What `compare` tabulates. The best accuracy is taken among the epochs that were as sparse as the last."""
    last = run["epochs"][-1]
    as_sparse = [e for e in run["epochs"] if e.get("sparsity", 0.0) >= last.get("sparsity", 0.0) - 1e-6]
    best = max(as_sparse, key=lambda e: e["val_accuracy"])
    return {
        "data": config.data.name,
        "model": str(config.model),
        "method": _method(config.prune),
        "seed": config.seed,
        "asked_sparsity": config.prune.sparsity if config.prune else 0.0,
        "sparsity": report["sparsity"],
        "accuracy": last["val_accuracy"],
        "best_accuracy": best["val_accuracy"],
        "best_epoch": best["epoch"],
        "seconds": round(sum(run["seconds"]), 3),
    }


def _method(section):
    """Return the method in one line, as tables and legends call it: only options that are not the default."""
    if section is None:
        return "dense"
    parts = []
    for registry, part in ((tfsparse.schedules, section.schedule), (tfsparse.pruners, section.pruner)):
        plain = registry.get(part.name).get_config()
        chosen = registry.get(part.name, **part.options).get_config()
        changed = ", ".join(f"{key}={value}" for key, value in chosen.items() if value != plain[key])
        parts.append(f"{part.name} ({changed})" if changed else part.name)
    return ", ".join(parts + [key for key in ("skip_first", "skip_last") if getattr(section, key)])


def _environment():
    packages = ("keras", "tensorflow", "jax", "numpy")
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in packages if name in installed}
    return {
        "versions": {"python": platform.python_version(), "tfsparse": tfsparse.__version__, **versions},
        "backend": keras.backend.backend(),
        "platform": platform.platform(),
        "devices": keras.distribution.list_devices(),
    }
