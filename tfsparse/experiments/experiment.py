"""Train what a config says into a run directory that is never half-written and can be resumed bit for bit.

run.json       config, versions, metrics of every epoch, report; its status becomes "finished" last of all
model.keras    the model after the last whole epoch, with optimizer state and masks
savedmodel/    the sparse model for serving
tensorboard/   curves
training.png   sparsity and accuracy over training
"""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Sequence

import keras

import tfsparse
from tfsparse.backend import files, run_directory
from tfsparse.backend.precision import dtype_policy
from tfsparse.experiments import assembly, plots, records
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import ConfigError
from tfsparse.experiments.zoo import data as zoo_data


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
    run = records.resumed(directory, config) if resume else records.fresh(directory, config, overwrite)
    if run["status"] == "finished":
        return run
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    with dtype_policy(config.precision):
        start = () if run["checkpoints"] else assembly.start_models(config.start)
        keras.utils.set_random_seed(config.seed)  # after reading models, which draws numbers: a ticket needs the first
        fit = _fit_in_stages if assembly.driver_method(config) else _fit
        model = fit(config, directory, run, start, callbacks)
        return _finish(config, directory, run, model)


_TIMES = {"measuring_share"}  # logs that another run of the same config would not repeat
_LOOKS = 20  # in an epoch, at how much of the network is multiplied: phases of a schedule may be shorter than an epoch


class _Keeper(keras.callbacks.Callback):
    """Opens the run directory when everything else has been checked, and keeps it true after every epoch.

    Before TensorBoard, so that it finds the shares of multiply-adds in the logs.
    """

    def __init__(self, directory, run):
        super().__init__()
        self._directory, self._run = directory, run

    def on_epoch_begin(self, epoch, logs=None):  # on_train_begin comes before Prune knows whether it can run
        if not self._run["checkpoints"]:
            _begin(self._directory, self._run, self.model)
        self._begun, self._shares = time.perf_counter(), []

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) * _LOOKS // self.params["steps"] > len(self._shares):
            self._shares.append(_macs_share(self.model))

    def on_epoch_end(self, epoch, logs=None):
        share = _macs_share(self.model)
        if share is not None:
            logs |= {"macs_share": share, "mean_macs_share": statistics.fmean(self._shares)}
        entry = {key: float(value) for key, value in logs.items() if key not in _TIMES}
        self._run["epochs"].append({"epoch": epoch + 1} | entry)
        self._run["seconds"].append(round(time.perf_counter() - self._begun, 3))
        run_directory.write_model(self._directory, self._run, self.model)


class _Curves(keras.callbacks.TensorBoard):
    """TensorBoard that makes its directory in the first epoch: before that Prune may still refuse the run."""

    def on_train_begin(self, logs=None):
        self._is_open = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._is_open:
            super().on_train_begin()
            self._is_open = True
        super().on_epoch_begin(epoch, logs)


def _fit(config, directory, run, start, callbacks):
    done = len(run["epochs"])
    if done == config.epochs:
        return run_directory.load_model(directory, run)
    assembly.callbacks(config)  # before the data: a typo should not wait for a download
    data = _data(config, done)
    model = (
        run_directory.load_model(directory, run)
        if run["checkpoints"]
        else assembly.compiled_model(config, data, *start)
    )
    pruning = assembly.callbacks(config, data.validation, lambda: _first_batch(config))
    logs = str(directory / "tensorboard")
    counting = [tfsparse.SparsityLogger(logs)] if pruning else []
    with _interruptible():
        model.fit(
            data.train,
            epochs=config.epochs,
            initial_epoch=done,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation,
            callbacks=[*pruning, *counting, _Keeper(directory, run), _Curves(logs, write_graph=False), *callbacks],
            shuffle=False,  # the data come shuffled
            verbose=0,
        )
    return model


def _fit_in_stages(config, directory, run, start, callbacks):
    """Train a network that shrinks: what a resume needs its driver keeps, in a directory of its own."""
    assembly.callbacks(config)
    data = _data(config)
    model = assembly.compiled_model(config, data, *start)
    method = assembly.driver_method(config)
    driver = method.driver(config, model, directory / method.name)
    if not run["checkpoints"]:
        _begin(directory, run, model)
    logs = _Curves(str(directory / "tensorboard"), write_graph=False)
    with _interruptible():
        driver.fit(
            lambda epoch: _data(config, epoch).train,
            epochs=config.epochs,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation,
            callbacks=[logs, *callbacks],
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
    """What became of the network; its accuracy is measured, for it may be that of an earlier stage."""
    now, before = (tfsparse.Channels(model) for model in (driver.model, dense))
    return {
        "accuracy": driver.model.evaluate(data.validation, verbose=0, return_dict=True)["accuracy"],
        "parameters": now.parameters(),
        "dense_parameters": before.parameters(),
        "macs": now.macs(),
        "dense_macs": before.macs(),
        "resizes": [resize["epoch"] for resize in driver.resizes],
        "stopped": driver.stopped,
    }


def _macs_share(model):
    """How many of the multiply-adds of a dense forward pass are not by zero; None where that is not known."""
    report = tfsparse.report(model)
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


def _first_batch(config):
    """Of the first epoch, also when later ones are trained; for what looks at the same examples all the time."""
    return next(iter(_data(config).train))


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
        raise ConfigError(f"steps_per_execution={at_once} does not divide the {steps} steps of an epoch; write {fit}")


# ------------------------------------------------------------------------------------------------------------ the end


def _finish(config, directory, run, model):
    report = tfsparse.report(model).as_dict()
    run |= {"summary": _summary(config, run, report), "report": report}
    records.remove_temporary_files(directory)
    files.write(directory / "savedmodel", lambda path: tfsparse.export(model, path))
    plots.save(plots.training(run), directory / "training.png")
    run["status"] = "finished"
    run_directory.write_run(directory, run)
    return run


def _summary(config, run, report):
    """What `compare` tabulates. Where a sparsity is asked, the best accuracy is that of an epoch as sparse as the last;
    where none is, of any epoch, and `best_sparsity` says how sparse it was. Of a network that shrank it is that of an
    epoch in the last shapes.
    """
    last, asked = run["epochs"][-1], assembly.target_sparsity(config)
    needed = 0.0 if asked is None else last.get("sparsity", 0.0) - 1e-6
    shrunk = run.get("shrunk", {})
    candidates = [e for e in run["epochs"] if e.get("sparsity", 0.0) >= needed]
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
        "asked_sparsity": report["sparsity"] if asked == 0 and config.start.mask else asked,
        "sparsity": report["sparsity"],
        "accuracy": last["val_accuracy"],
        "best_accuracy": best["val_accuracy"],
        "best_epoch": best["epoch"],
        "seconds": round(sum(run["seconds"]), 3),
        **{key: value for key, value in measured.items() if value is not None},
        **shrunk,
    }


def _training_complexity(epochs):
    """Of the multiply-adds of as many dense epochs the share that was not by zero; a network that shrinks has one
    shape throughout an epoch.
    """
    shares = [e.get("mean_macs_share", e["macs_share"]) for e in epochs if "macs_share" in e]
    return statistics.fmean(shares) if shares else None


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
