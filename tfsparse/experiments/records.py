"""Start a run directory, or continue the run in it."""

import pathlib

from tfsparse.backend import files, run_directory, run_record
from tfsparse.backend.run_directory import RunError
from tfsparse.experiments import config as configs
from tfsparse.experiments.method import DriverMethod
from tfsparse.experiments.methods import METHODS
from tfsparse.experiments.run_config import RunConfig
from tfsparse.structured.stages import record as stages_record

SAVED_MODEL = (
    "savedmodel/saved_model.pb",
    "savedmodel/fingerprint.pb",
    "savedmodel/variables/variables.index",
    "savedmodel/variables/variables.data-*-of-*",
    "savedmodel/assets/packed_*.gz",
)
_DRIVERS = [name for name, method in METHODS.items() if isinstance(method, DriverMethod)]  # they have folders
_FILES = (  # of a run besides run.json, by the names that tfsparse, TensorFlow and TensorBoard give them
    "model.keras",
    "training.png",
    *SAVED_MODEL,
    "tensorboard/events.out.tfevents.*",
    "tensorboard/train/events.out.tfevents.*",
    "tensorboard/validation/events.out.tfevents.*",
    "tensorboard/frontier/events.out.tfevents.*",
    *(f"{folder}/{name}" for folder in _DRIVERS for name in ("run.json", *stages_record.NAMES)),
)


def new_run(directory: pathlib.Path, config: RunConfig, overwrite: bool = False) -> dict:
    """Create the record of a new run in `directory`. Nothing is written yet.

    Returns:
        The record.

    Raises:
        RunError: If `directory` holds a run, unless `overwrite`, or files that are not a run's.
    """
    is_run = (directory / "run.json").is_file()
    if directory.exists() and not is_run and not _is_empty(directory):
        raise RunError(f"{directory} exists and is not a run of tfsparse; choose another directory with --out.")
    status = run_directory.read(directory)["status"] if is_run else None  # what only has its name is not overwritten
    if is_run and not overwrite:
        resume = "" if status == "finished" else "--resume to continue it, "
        raise RunError(
            f"{directory} already holds a run; add {resume}--overwrite to replace it, or choose another --out."
        )
    return {
        "status": "running",
        "name": config.name,
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "epochs": [],
        "seconds": [],  # of every epoch; not among the metrics, which are the same in every run
        "checkpoints": [],  # of model.keras after 0, 1, ... epochs: its SHA-256, and the random states
    }


def _is_empty(directory):
    return directory.is_dir() and all(map(files.is_temporary, directory.iterdir()))


def resumed_run(directory: pathlib.Path, config: RunConfig) -> dict:
    """Read the record of the run in `directory`, without the epochs that `model.keras` does not have.

    Returns:
        The record.

    Raises:
        RunError: If there is no run, its config differs, or the run did not write `model.keras`.
    """
    run = run_record.read(directory)
    changed = configs.differences(configs.validate(run["config"], source=str(directory / "run.json")), config)
    if changed:
        raise RunError(
            f"{directory} was trained with another config, so it cannot be resumed with this one. Undo these changes "
            "or choose another --out:\n" + "\n".join(f"  {line}" for line in changed)
        )
    if run["status"] != "finished":
        saved = run_directory.num_checkpoints(directory, run)
        for key, length in (("checkpoints", saved), ("epochs", max(saved - 1, 0)), ("seconds", max(saved - 1, 0))):
            del run[key][length:]
    return run


def begin(directory: pathlib.Path, run: dict) -> None:
    """Create the directory and remove the files of an earlier run. Files of others stay."""
    directory.mkdir(parents=True, exist_ok=True)
    run_directory.write_run(directory, run)  # first: files of the earlier run are never taken for this run's
    files.remove(directory, _FILES)


def remove_temporary_files(directory: pathlib.Path) -> None:
    """Remove files that were not complete when a run was killed."""
    for folder in (directory, *(directory / name for name in _DRIVERS)):
        files.remove_temporaries(folder)
