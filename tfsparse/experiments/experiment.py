"""Train a config into a run directory. A run can be resumed with the same bits as an uninterrupted one.

Files of a run directory:

    run.json       config, versions, metrics of every epoch, report; the status "finished" is written last
    model.keras    the model after the last whole epoch, with optimizer state and masks
    savedmodel/    the sparse model for serving
    tensorboard/   curves
    training.png   sparsity and accuracy over training
"""

import contextlib
import functools
import importlib.metadata
import itertools
import math
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Sequence

import keras
import numpy as np

from tfsparse.backend import files, run_directory
from tfsparse.backend.precision import dtype_policy
from tfsparse.callbacks.sparsity_logger import SparsityLogger
from tfsparse.experiments import assembly, plots, records
from tfsparse.experiments.divergence import StopAtDivergence
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import ConfigError
from tfsparse.experiments.zoo import data as zoo_data
from tfsparse.export.saved_model import export
from tfsparse.reporting.report import report as report_of
from tfsparse.structured.channels import Channels
from tfsparse.version import __version__


def train(
    config: RunConfig,
    out_dir: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Train a config into a run directory.

    After every epoch `model.keras` is replaced in one step: a run that is interrupted leaves a file that loads. The
    seed is set for the whole process, and so are TensorFlow's deterministic kernels, unless `deterministic: false`.

    Args:
        config: The config.
        out_dir: The run directory.
        resume: Continue after the last whole epoch of a run of the same config. Weights and metrics have the same bits
            as those of an uninterrupted run. Default: False.
        overwrite: Replace an earlier run. Default: False.
        callbacks: Callbacks of Keras that are called after the run's own. Default: none.

    Returns:
        The record of the run, the content of `run.json`.

    Raises:
        RunError: If the directory holds something else. Then nothing is written.
        ValueError: If the config cannot be trained (ConfigError, and errors of the method), or if another process
            trains into the directory. Then nothing is written.

    Examples:
        >>> run = train(config.load("configs/digits_quickstart.yaml"), "runs/digits")
        >>> run["summary"]["sparsity"]
        0.9
    """
    with files.locked(out_dir):
        return _train(config, pathlib.Path(out_dir), resume, overwrite, callbacks)


def _train(config, directory, resume, overwrite, callbacks):
    run = records.resumed_run(directory, config) if resume else records.new_run(directory, config, overwrite)
    if run["status"] == "finished":
        return run
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    with dtype_policy(config.precision):
        start = () if run["checkpoints"] else assembly.start_models(config.start)
        keras.utils.set_random_seed(config.seed)  # after reading models, which uses random numbers
        fit = _fit_in_stages if assembly.driver_method(config) else _fit
        model = fit(config, directory, run, start, callbacks)
        return _finish(config, directory, run, model)


_NOT_REPRODUCIBLE = {"measuring_share"}  # logs that depend on wall time
_MEASUREMENTS_PER_EPOCH = 20  # of the multiply-adds: a phase of a schedule may be shorter than an epoch


class _RunRecorder(keras.callbacks.Callback):
    """Creates the run directory in the first epoch, and updates it after every epoch.

    It comes before TensorBoard, which writes the fractions of multiply-adds that it adds to the logs.
    """

    def __init__(self, directory, run):
        super().__init__()
        self._directory, self._run = directory, run

    def on_epoch_begin(self, epoch, logs=None):  # in on_train_begin a method may still raise
        if not self._run["checkpoints"]:
            _begin(self._directory, self._run, self.model)
        self._start, self._fractions = time.perf_counter(), []

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) * _MEASUREMENTS_PER_EPOCH // self.params["steps"] > len(self._fractions):
            self._fractions.append(_macs_fraction(self.model))

    def on_epoch_end(self, epoch, logs=None):
        fraction = _macs_fraction(self.model)
        if fraction is not None:
            logs |= {"macs_share": fraction, "mean_macs_share": statistics.fmean(self._fractions)}
        measured = {key: float(value) for key, value in logs.items() if key not in _NOT_REPRODUCIBLE}
        entry = {key: value for key, value in measured.items() if math.isfinite(value)}  # JSON has no NaN
        self._run["epochs"].append({"epoch": epoch + 1} | entry)
        self._run["seconds"].append(round(time.perf_counter() - self._start, 3))
        run_directory.write_model(self._directory, self._run, self.model)


class _TensorBoard(keras.callbacks.TensorBoard):
    """TensorBoard that creates its directory in the first epoch: before that, a method may still raise."""

    def on_train_begin(self, logs=None):
        self._is_open = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._is_open:
            super().on_train_begin()
            self._is_open = True
        super().on_epoch_begin(epoch, logs)


def _fit(config, directory, run, start, callbacks):
    """Train by a callback, or dense."""
    epochs_done = len(run["epochs"])
    if epochs_done == config.epochs:
        return run_directory.load_model(directory, run)
    assembly.callbacks(config)  # before the data: a typo should not wait for a download
    data = _data(config, epochs_done)
    model = (
        run_directory.load_model(directory, run)
        if run["checkpoints"]
        else assembly.compiled_model(config, data, *start)
    )
    pruning = assembly.callbacks(config, data.validation, functools.partial(_first_batches, config))
    logs = str(directory / "tensorboard")
    loggers = [SparsityLogger(logs)] if pruning else []
    recorders = [StopAtDivergence(), _RunRecorder(directory, run), _TensorBoard(logs, write_graph=False)]
    with _interruptible():
        model.fit(
            data.train,
            epochs=config.epochs,
            initial_epoch=epochs_done,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation,
            callbacks=[*pruning, *loggers, *recorders, *callbacks],
            shuffle=False,  # the data set is shuffled already
            verbose=0,
        )
    return model


def _fit_in_stages(config, directory, run, start, callbacks):
    """Train by a driver, which keeps what a resume needs in a directory of its own."""
    assembly.callbacks(config)
    data = _data(config)
    model = assembly.compiled_model(config, data, *start)
    method = assembly.driver_method(config)
    driver = method.driver(config, model, directory / method.name)
    if not run["checkpoints"]:
        _begin(directory, run, model)
    logs = _TensorBoard(str(directory / "tensorboard"), write_graph=False)
    with _interruptible():
        driver.fit(
            lambda epoch: _data(config, epoch).train,
            epochs=config.epochs,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation,
            callbacks=[StopAtDivergence(), logs, *callbacks],
            shuffle=False,
            verbose=0,
        )
    run["shrunk"] = _shrunk(driver, model, data)
    dense = run["shrunk"]["dense_macs"]
    run["epochs"] = [entry | {"macs_share": entry["macs"] / dense} for entry in driver.entries]
    run["seconds"] = [driver.seconds]
    run_directory.write_model(directory, run, driver.model)
    return driver.model


def _shrunk(driver, dense, data):
    """Return the sizes and the accuracy of the smaller model, which may be that of an earlier stage."""
    now, before = (Channels(model) for model in (driver.model, dense))
    return {
        "accuracy": driver.model.evaluate(data.validation, verbose=0, return_dict=True)["accuracy"],
        "parameters": now.parameters(),
        "dense_parameters": before.parameters(),
        "macs": now.macs(),
        "dense_macs": before.macs(),
        "resizes": [resize["epoch"] for resize in driver.resizes],
        "stopped": driver.stopped,
    }


def _macs_fraction(model):
    """Return the multiply-adds that are not by zero, over those of the dense model; None if they are not known."""
    report = report_of(model)
    return report.effective_flops / report.flops if report.flops else None


def _begin(directory, run, model):
    run["environment"] = _environment()
    records.begin(directory, run)
    run_directory.write_model(directory, run, model)


def _data(config, first_epoch=0):
    data = zoo_data.load(
        config.data.name,
        batch_size=config.data.batch_size,
        seed=config.seed,
        data_dir=config.data.dir,
        augment=config.data.augment,
        image_size=config.data.image_size,
        standardize=config.data.standardize,
        epochs=config.epochs,
        first_epoch=first_epoch,
    )
    _check_steps(config, data)
    return data


def _first_batches(config, number=1):
    """Return the first batches of the first epoch as one, also when a run is resumed in a later epoch."""
    batches = list(itertools.islice(_data(config).train, number))
    return batches[0] if number == 1 else tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


@contextlib.contextmanager
def _interruptible():
    """Raise KeyboardInterrupt for Ctrl-C: on JAX, Keras's cleanup then uses donated arrays and raises another error."""
    try:
        yield
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _check_steps(config, data):
    steps, at_once = data.steps_per_epoch, config.steps_per_execution
    if steps % at_once:  # Keras would use batches of the next epoch
        fit = max(n for n in range(1, min(at_once, steps) + 1) if steps % n == 0)
        raise ConfigError(f"steps_per_execution={at_once} does not divide the {steps} steps of an epoch; write {fit}")


# ------------------------------------------------------------------------------------------------------------ the end


def _finish(config, directory, run, model):
    report = report_of(model).as_dict()
    run |= {"summary": _summary(config, run, report), "report": report}
    records.remove_temporary_files(directory)
    files.remove(directory, records.SAVED_MODEL)  # of a run that was killed in these lines
    files.write_directory(directory / "savedmodel", lambda path: export(model, path))
    plots.save(plots.training(run), directory / "training.png", overwrite=True)
    run["status"] = "finished"
    run_directory.write_run(directory, run)
    return run


def _summary(config, run, report):
    """Return the figures that `compare` shows.

    The best accuracy is that of an epoch as sparse as the last, if there is a target; else that of any epoch, and
    `best_sparsity` says how sparse the model was. For a model that became smaller, it is that of an epoch in the last
    shapes.
    """
    last, target = run["epochs"][-1], assembly.target_sparsity(config)
    minimum = 0.0 if target is None else last.get("sparsity", 0.0) - 1e-6
    shrunk = run.get("shrunk", {})
    candidates = [e for e in run["epochs"] if e.get("sparsity", 0.0) >= minimum]
    candidates = [e for e in candidates if not shrunk or e["macs"] == shrunk["macs"]]
    best = max(candidates, key=lambda e: e["val_accuracy"])
    measured = {
        "best_sparsity": best.get("sparsity"),
        "accuracy_before_cut": last.get("uncut_accuracy"),
        "sparsity_before_cut": last.get("uncut_sparsity"),
        "training_complexity": _training_complexity(run["epochs"]),
    }
    return {
        "data": config.data.name,
        "model": str(config.model),
        "method": assembly.label(config),
        "seed": config.seed,
        "asked_sparsity": report["sparsity"] if target == 0 and config.start.mask else target,
        "sparsity": report["sparsity"],
        "accuracy": last["val_accuracy"],
        "best_accuracy": best["val_accuracy"],
        "best_epoch": best["epoch"],
        "seconds": round(sum(run["seconds"]), 3),
        **{key: value for key, value in measured.items() if value is not None},
        **shrunk,
    }


def _training_complexity(epochs):
    """Return the multiply-adds of all epochs that were not by zero, over those of as many dense epochs."""
    fractions = [e.get("mean_macs_share", e["macs_share"]) for e in epochs if "macs_share" in e]
    return statistics.fmean(fractions) if fractions else None


def _environment():
    packages = ("keras", "tensorflow", "jax", "numpy")
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in packages if name in installed}
    return {
        "versions": {"python": platform.python_version(), "tfsparse": __version__, **versions},
        "backend": keras.backend.backend(),
        "platform": platform.platform(),
        "devices": keras.distribution.list_devices(),
    }
