"""A directory with `run.json`, the record of a training, and `model.keras`, its model after the last whole epoch.

`run.json` lists the SHA-256 of every `model.keras` of the run. It is written before the model. So the record always
knows the model that is in the directory, at whatever moment the run was interrupted.
"""

import json
import os
import pathlib
import textwrap
import zipfile

import keras
import numpy as np

from tfsparse.backend import files

_MAX_DEPTH = 50  # of lists and dicts in each other, as in a config


class RunError(ValueError):
    """A directory does not hold the run that was expected; the message says what to do."""


def read(directory: str | os.PathLike) -> dict:
    """Read the record of a run.

    Args:
        directory: A run directory, or its file `run.json`.

    Returns:
        The record: a dict with at least `status`, `config`, `epochs` and `checkpoints`.

    Raises:
        RunError: If there is no run.
    """
    path = pathlib.Path(directory)
    path = path if path.is_file() else path / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        reason = "it is not one of tfsparse"
    except (OSError, ValueError, RecursionError) as error:
        run, reason = None, error.strerror if isinstance(error, OSError) else str(error)
    if _is_record(run):
        return _as_present(run)
    raise RunError(
        f"{directory} holds no run: cannot read {path} ({reason}). Pass a directory that tfsparse train wrote."
    )


def _is_record(run) -> bool:
    """Whether a value has the keys of a record, with values of their types."""
    return (
        isinstance(run, dict)
        and _depth_is_at_most(run, _MAX_DEPTH)
        and run.get("status") in ("running", "finished")
        and isinstance(run.get("config"), dict)
        and isinstance(run.get("report", {}), dict)
        and all(_are_dicts(run.get(key)) for key in ("epochs", "checkpoints"))
        and all({"sha256", "random_states"} <= checkpoint.keys() for checkpoint in run["checkpoints"])
    )


def _are_dicts(values) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _depth_is_at_most(values, depth) -> bool:
    """Whether lists and dicts are in each other at most so deep. Deeper ones end a recursion, as of YAML."""
    level = [values]
    for _ in range(depth):
        level = [v for outer in level for v in _inner(outer)]
    return not level


def _inner(values):
    values = values.values() if isinstance(values, dict) else values
    return [value for value in values if isinstance(value, dict | list)]


def _as_present(run):
    """Rename what records from before version 0.1 call `churn` and `traffic`, and write down the scope of that time."""
    section = run["config"].get("prune")
    pruner = section.get("pruner") if isinstance(section, dict) else None
    if isinstance(pruner, dict) and pruner.get("name") in ("magnitude", "saliency"):
        pruner.setdefault("scope", "layer")  # the default then; later records hold it
    run["epochs"] = [{"mask_change_rate" if k == "churn" else k: v for k, v in e.items()} for e in run["epochs"]]
    report = run.get("report", {})
    if "traffic" in report:
        traffic = report.pop("traffic")
        report["sync_stats"] = traffic and {"num_syncs": traffic["events"], "bytes": traffic["bytes"]}
    return run


def num_checkpoints(directory: pathlib.Path, run: dict) -> int:
    """Count the models that the run had saved when it saved the one in the directory.

    Returns:
        The number of entries of `run["checkpoints"]` up to that model; 0 if the run has saved none.

    Raises:
        RunError: If the run did not write the `model.keras` in the directory.
    """
    path, checkpoints = directory / "model.keras", run["checkpoints"]
    if not checkpoints or (len(checkpoints) == 1 and not path.is_file()):
        return 0
    digests = [checkpoint["sha256"] for checkpoint in checkpoints]
    present = files.digest(path) if path.is_file() else None
    if present not in digests:
        raise RunError(
            f"{path} is not what this run wrote, so the run cannot be resumed. Put the run's own model.keras back, "
            "or start again, in another directory or with --overwrite."
        )
    return digests.index(present) + 1


def write_run(directory: pathlib.Path, run: dict) -> None:
    """Replace `run.json`."""
    files.write_text(directory / "run.json", json.dumps(run, indent=1) + "\n", overwrite=True)


def write_model(directory: pathlib.Path, run: dict, model: keras.Model) -> None:
    """Replace `model.keras`, after its digest and its random states have been written to `run.json`."""

    def save(path):
        model.save(path)
        states = [state.numpy().tolist() for state in random_states(model)]
        run["checkpoints"].append({"sha256": files.digest(path), "random_states": states})
        write_run(directory, run)

    files.write(directory / "model.keras", save, overwrite=True)


def load_model(directory: pathlib.Path, run: dict) -> keras.Model:
    """Load the model of a run, with the random states that it had when it was saved."""
    model = read_model(directory / "model.keras")
    set_random_states(model, run["checkpoints"][-1]["random_states"])
    return model


def read_model(path: str | os.PathLike, compiled: bool = True) -> keras.Model:
    """Load a `.keras` file.

    Args:
        path: The file.
        compiled: Load the optimizer, too. Default: True.

    Returns:
        The model.

    Raises:
        RunError: If that cannot be done; the message says why.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        inside = f" Did you mean {path / 'model.keras'}?" if (path / "model.keras").is_file() else ""
        raise RunError(f"{path} is not a file. Pass a model saved with model.save('model.keras').{inside}")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(16)
        raise RunError(f"Cannot load {path}: it is no .keras file, or its end is missing; it begins with {start!r}.")
    try:
        model = keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # Keras raises what the parser, h5py or the missing class happened to raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 500, placeholder=" ...")
        raise RunError(f"Cannot load {path} as a Keras model: {reason}") from error
    if not isinstance(model, keras.Model):
        raise RunError(f"{path} holds {model!r}, which is no model. Pass a file of model.save('model.keras').")
    return model


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of random layers such as Dropout. Keras does not save them with the model."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def set_random_states(model: keras.Model, states: list) -> None:
    """Give random layers the states that `run["checkpoints"]` holds.

    Raises:
        RunError: If they are not those of such a model.
    """
    variables = random_states(model)
    try:
        values = [np.array(state, variable.dtype) for variable, state in zip(variables, states, strict=True)]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(f"run.json does not hold the random states of model.keras: {error}") from error
