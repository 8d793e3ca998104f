"""Run directories: never half-written, never mixed up, resumable behind the last whole epoch.

`run.json` lists the SHA-256 of every `model.keras` of the run and is written before it. So whatever moment a run is
killed at, the file that is there says how many epochs lie behind it.
"""

import hashlib
import json
import os
import pathlib
import shutil
import textwrap
from collections.abc import Callable

NEW = ".new-"  # begins the temporary name of what is being written
FILES = ("model.keras", "savedmodel", "tensorboard", "training.png", "activation_density")  # besides run.json


class RunError(ValueError):
    """A run directory that is not what it should be; the message says what to do."""


def read(directory: str | os.PathLike) -> dict:
    """Return what `run.json` in `directory`, or that file itself, says. Raises RunError if there is no run."""
    path = pathlib.Path(directory)
    path = path if path.is_file() else path / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(run, dict) or not {"status", "config", "epochs", "checkpoints"} <= run.keys():
            raise ValueError("it is not one of tfsparse")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(
            f"{directory} holds no run: cannot read {path} ({reason}). Pass a directory that tfsparse train wrote."
        ) from error
    return run


def checkpoints_made(directory: pathlib.Path, run: dict) -> int:
    """Return how many models the run had saved when it saved the one that is there; 0 is a run that never began.

    Raises RunError if the run did not write it.
    """
    path, known = directory / "model.keras", run["checkpoints"]
    if not known or (len(known) == 1 and not path.is_file()):
        return 0
    digests = [checkpoint["sha256"] for checkpoint in known]
    present = digest(path) if path.is_file() else None
    if present not in digests:
        raise RunError(
            f"{path} is not what this run wrote, so nobody knows where to go on. Put the run's own model.keras back, "
            "or start again, in another directory or with --overwrite."
        )
    return digests.index(present) + 1


def begin(directory: pathlib.Path, run: dict) -> None:
    """Make the directory, without what an earlier run left there."""
    directory.mkdir(parents=True, exist_ok=True)
    write_run(directory, run)  # first, so that at no moment old files pass for this run's
    for name in FILES:
        _remove(directory / name)


def write_run(directory: pathlib.Path, run: dict) -> None:
    """Replace run.json."""
    write(directory / "run.json", lambda path: path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8"))


def write_model(directory: pathlib.Path, run: dict, model) -> None:
    """Replace model.keras, with run.json knowing the new one first."""

    def save(path):
        model.save(path)
        states = [state.numpy().tolist() for state in random_states(model)]
        run["checkpoints"].append({"sha256": digest(path), "random_states": states})
        write_run(directory, run)

    write(directory / "model.keras", save)


def load_model(directory: pathlib.Path, run: dict):
    """Return the model of a run as it was when it was written."""
    model = read_model(directory / "model.keras")
    for state, value in zip(random_states(model), run["checkpoints"][-1]["random_states"], strict=True):
        state.assign(value)
    return model


def read_model(path: str | os.PathLike, compiled: bool = True):
    """Return the model in the `.keras` file `path`, with its optimizer if `compiled`.

    Raises RunError with the reason if that cannot be done.
    """
    import keras

    path = pathlib.Path(path)
    if not path.is_file():
        inside = f" Did you mean {path / 'model.keras'}?" if (path / "model.keras").is_file() else ""
        raise RunError(f"{path} is not a file. Pass a model saved with model.save('model.keras').{inside}")
    try:
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # Keras raises what the parser, h5py or the missing class happened to raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 500, placeholder=" ...")
        raise RunError(f"Cannot load {path} as a Keras model: {reason}") from error


def random_states(model) -> list:
    """Return what dropout and its like draw from; Keras makes them anew when it loads a model."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def tidy(directory: pathlib.Path) -> None:
    """Remove what was being written when a run was killed."""
    for path in directory.glob(".*"):
        _remove(path)


def write(path: pathlib.Path, make: Callable[[pathlib.Path], object]) -> None:
    """Have `make` write a file or directory under a temporary name beside `path`, then rename it in one step."""
    temporary = path.with_name(NEW + path.name)
    _remove(temporary)
    try:
        make(temporary)
    except BaseException:
        _remove(temporary)
        raise
    if path.is_dir():  # a directory cannot be replaced by another
        shutil.rmtree(path)
    os.replace(temporary, path)


def digest(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
