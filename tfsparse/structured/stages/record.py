"""The state of a training in stages, in memory or in a directory.

    run.json         settings, an entry per epoch, the resizes, and a position for every model that was written
    model.keras      the model after the last whole epoch, or just after a resize
    stage-0.keras    the model at the end of the first stage, and so on
    examples.npz     the examples to measure on, unless they are the first rows of arrays

Files are replaced in one step. `run.json` lists a model before it is in the directory, so at whatever moment the
training is interrupted, `run.json` has the position of the model that is there.
"""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
from keras import tree

from tfsparse.backend import files, run_directory

NAMES = ("model.keras", "stage-[0-9]*.keras", "examples.npz")  # of its files besides run.json
_FORMER_KEYS = {"size": "stage", "since": "stage_begin"}  # of positions, in version 0.1
_LATER_SETTINGS = {"min_kept": 0.0}  # which that version did not have, and what they were in it


@dataclasses.dataclass
class Position:
    """How far a training is.

    Attributes:
        epochs: Number of epochs that are done.
        stage: Number of resizes that led to the model.
        stage_begin: Number of epochs that were done at the last resize.
        stopped: Why nothing is resized any more, or None.
        rolled_back: Whether the training has returned to an earlier stage.
        halted: Whether a callback of the user has stopped the training.
        seconds: Wall time of the training.
    """

    epochs: int = 0
    stage: int = 0
    stage_begin: int = 0
    stopped: str | None = None
    rolled_back: bool = False
    halted: bool = False
    seconds: float = 0.0


class Record:
    """The state of a training.

    Args:
        directory: Where it is kept, or None.
        settings: What a training in the directory must have in common with this one.
        groups: Names of all groups of channels.

    Attributes:
        position: A `Position`.

    Raises:
        RunError: If the directory holds something else.
    """

    def __init__(self, directory, settings: dict, groups: list[str]):
        self.directory = None if directory is None else pathlib.Path(directory)
        run = (self.directory and self._saved_run(settings)) or {
            "status": "running",
            "config": settings,
            "groups": groups,  # their names, which Keras may choose anew in the same process
            "epochs": [],
            "resizes": [],
            "checkpoints": [],  # one for each model.keras, as in `run_directory`
            "positions": [],  # one for each checkpoint
        }
        self._run = _with_names(run, groups)
        self.position = _position(run["positions"][-1]) if self.is_resumed else Position()

    @property
    def entries(self) -> list[dict]:
        """One entry per epoch."""
        return self._run["epochs"]

    @property
    def resizes(self) -> list[dict]:
        """The resizes that led to the model: after which `epoch`, and the channels to `keep`."""
        return self._run["resizes"][: self.position.stage]

    @property
    def is_resumed(self) -> bool:
        """Whether there is a model to continue with."""
        return bool(self._run["checkpoints"])

    @property
    def is_finished(self) -> bool:
        """Whether the training is complete."""
        return self._run["status"] == "finished"

    def add_resize(self, resize: dict) -> None:
        """Note a resize of the model. The model of before is kept; `write` the new one next."""
        states = None
        if self.directory:
            path = self.directory / f"stage-{len(self.resizes)}.keras"
            files.write(path, lambda new: shutil.copyfile(self.directory / "model.keras", new), overwrite=True)
            states = self._run["checkpoints"][-1]["random_states"]
        self._run["resizes"] = [*self.resizes, resize | {"random_states": states}]
        self._begin_stage(self.position.stage + 1)

    def undo_resize(self, reason: str) -> None:
        """Note that the model is that of the stage before again, and that nothing is resized any more.

        The resize stays in the file: until the model is replaced there, it is the one that leads to it.
        """
        self._begin_stage(self.position.stage - 1)
        self.position.stopped, self.position.rolled_back = reason, True

    def _begin_stage(self, stage):
        self.position.stage, self.position.stage_begin = stage, len(self.entries)

    def write(self, model, finished: bool = False) -> None:
        """Write the model and the state of the training, if there is a directory."""
        self.position.epochs = len(self.entries)
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run["positions"].append(dataclasses.asdict(self.position))
        run_directory.write_model(self.directory, self._run, model)
        if finished:
            self._run["status"] = "finished"
            run_directory.write_run(self.directory, self._run)

    def load(self, model, stage: int | None = None) -> None:
        """Load the values of a saved model into a model of the same shapes.

        Args:
            model: The model.
            stage: The stage at whose end the values were saved. Default: None, the last that were saved.
        """
        path = self.directory / ("model.keras" if stage is None else f"stage-{stage}.keras")
        model.load_weights(path)
        saved = self._run["checkpoints"][-1] if stage is None else self.resizes[stage]
        run_directory.set_random_states(model, saved["random_states"])

    def saved_examples(self, read) -> tuple:
        """Return the examples of the beginning of the training, also on a resume.

        Args:
            read: Function that returns a nest of arrays and a batch size.

        Returns:
            What `read()` returns. If the training is resumed, the arrays are those that were saved at its beginning.
        """
        if self.directory is None:
            return read()
        path = self.directory / "examples.npz"
        examples, batch_size = read()
        if self.is_resumed and path.is_file():
            with np.load(path) as saved:
                return tree.pack_sequence_as(examples, [saved[name] for name in sorted(saved.files)]), batch_size
        self.directory.mkdir(parents=True, exist_ok=True)
        run_directory.write_run(self.directory, self._run)  # first: without it, such a file is somebody else's
        arrays = {f"{i:04}": array for i, array in enumerate(tree.flatten(examples))}
        files.write(path, lambda new: _save(new, arrays), overwrite=True)
        return examples, batch_size

    def _saved_run(self, settings):
        """Return the record in the directory up to its `model.keras`, or None if there is none."""
        if not (self.directory / "run.json").is_file():
            others = sorted(path.name for name in NAMES for path in self.directory.glob(name))
            if others:
                raise run_directory.RunError(
                    f"{self.directory} holds {others[0]} and no training in stages; pass another."
                )
            return None
        run = run_directory.read(self.directory)
        _check(self.directory, run, settings)
        if run["status"] == "finished":
            return run
        num_saved = run_directory.num_checkpoints(self.directory, run)
        if not num_saved:
            return None
        del run["checkpoints"][num_saved:], run["positions"][num_saved:]
        position = _position(run["positions"][-1])
        del run["epochs"][position.epochs :], run["resizes"][position.stage :]
        return run


def _position(saved: dict) -> Position:
    return Position(**{_FORMER_KEYS.get(key, key): value for key, value in saved.items()})


def _check(directory, run, settings):
    if "positions" not in run:
        raise run_directory.RunError(f"{directory} holds a run of tfsparse train; pass another directory.")
    old, new = run["config"], json.loads(json.dumps(settings))
    old = {key: value for key, value in _LATER_SETTINGS.items() if key in new} | old
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        lines = "\n".join(f"  {key}: {old.get(key)!r} -> {new.get(key)!r}" for key in changed)
        raise run_directory.RunError(
            f"{directory} holds a training with other settings, so it cannot be continued with these. Pass the former "
            f"settings or another directory:\n{lines}"
        )


def _with_names(run, groups):
    """Return the record with the names that the groups have now."""
    names = dict(zip(run["groups"], groups, strict=True))
    for entry in [*run["epochs"], *run["resizes"]]:
        for key in {"densities", "widths", "keep"} & entry.keys():
            entry[key] = {names[name]: value for name, value in entry[key].items()}
    return run | {"groups": groups}


def _save(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
